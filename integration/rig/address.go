package rig

import "net"

// FreeAddress is a loopback address nobody listens on. A server that must be
// found again after a restart gets one; others listen on port 0.
func FreeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
