package server

import (
	"net"
	"os"
)

// notify tells systemd about the state of the service, when systemd wants to
// know (Type=notify). Failing to is no reason to fail.
func notify(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	c.Write([]byte(state))
}
