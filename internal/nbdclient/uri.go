package nbdclient

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// defaultPort is IANA's for NBD.
const defaultPort = "10809"

// ParseURI reads an NBD URI as nbdinfo, nbdcopy and QEMU do
// (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/uri.md):
//
//	nbd://HOST[:PORT]/EXPORT          nbds://…  with TLS
//	nbd+unix:///EXPORT?socket=PATH    nbds+unix:///…  with TLS
//
// With TLS the target gets a configuration that trusts the system's CAs and
// expects the host's name; replace it to use others. An nbds URI never makes a
// target without TLS.
func ParseURI(uri string) (Target, error) {
	t, err := parseURI(uri)
	if err != nil {
		return Target{}, fmt.Errorf("NBD URI %q: %w", uri, err)
	}
	return t, nil
}

func parseURI(uri string) (t Target, err error) {
	u, err := url.Parse(uri)
	if err != nil {
		if e, ok := err.(*url.Error); ok {
			err = e.Err // its text repeats the URI
		}
		return t, err
	}
	if u.Scheme == "" {
		return t, fmt.Errorf("want nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH")
	}
	secure := u.Scheme == "nbds" || u.Scheme == "nbds+unix"
	unix := strings.HasSuffix(u.Scheme, "+unix")
	switch {
	case u.Scheme != "nbd" && u.Scheme != "nbd+unix" && !secure:
		return t, fmt.Errorf("its scheme is not nbd, nbds, nbd+unix or nbds+unix")
	case u.Opaque != "" || !strings.HasPrefix(uri[len(u.Scheme):], "://"):
		return t, fmt.Errorf("want %s://", u.Scheme)
	case u.User != nil:
		return t, fmt.Errorf("a user name has no use here")
	case u.Fragment != "":
		return t, fmt.Errorf("a fragment (#) has no use here; write %%23 when it belongs to the name")
	}
	t.Export = strings.TrimPrefix(u.Path, "/")
	if len(t.Export) > nameMax || strings.ContainsRune(t.Export, 0) {
		return t, fmt.Errorf("the export's name is longer than %d bytes, or has a zero byte", nameMax)
	}
	socket, host, err := uriQuery(u.RawQuery)
	if err != nil {
		return t, err
	}
	if unix {
		err = t.atSocket(u.Host, socket)
	} else {
		err = t.atHost(u, socket)
	}
	if secure {
		if host == "" {
			host = serverName(u)
		}
		t.TLS = &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	}
	return t, err
}

func (t *Target) atSocket(host, socket string) error {
	switch {
	case host != "":
		return fmt.Errorf("a unix socket has no host; write three slashes before the export's name")
	case socket == "":
		return fmt.Errorf("the socket is missing: add ?socket=PATH")
	case strings.ContainsRune(socket, 0):
		return fmt.Errorf("the socket's path has a zero byte")
	}
	t.Network, t.Address = "unix", socket
	return nil
}

func (t *Target) atHost(u *url.URL, socket string) error {
	if socket != "" {
		return fmt.Errorf("socket= belongs to the scheme %s+unix", u.Scheme)
	}
	port := u.Port()
	if port == "" {
		port = defaultPort
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("port %s is not one of 1 to 65535", port)
	}
	t.Network, t.Address = "tcp", net.JoinHostPort(serverName(u), port)
	return nil
}

func serverName(u *url.URL) string {
	if h := u.Hostname(); h != "" {
		return h
	}
	return "localhost"
}

// uriQuery reads the parameters. A plus sign is itself: this is no web form.
func uriQuery(raw string) (socket, tlsHost string, err error) {
	seen := map[string]bool{}
	for _, p := range strings.FieldsFunc(raw, func(r rune) bool { return r == '&' || r == ';' }) {
		key, value, _ := strings.Cut(p, "=")
		if value, err = url.PathUnescape(value); err != nil {
			return "", "", err
		}
		if seen[key] {
			return "", "", fmt.Errorf("the parameter %q is there twice", key)
		}
		seen[key] = true
		switch key {
		case "socket":
			socket = value
		case "tls-hostname":
			tlsHost = value
		default:
			return "", "", fmt.Errorf("the parameter %q is not understood; certificates are named with options", key)
		}
	}
	return socket, tlsHost, nil
}
