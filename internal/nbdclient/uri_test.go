package nbdclient

import (
	"strings"
	"testing"
)

func TestParseURI(t *testing.T) {
	for uri, want := range map[string]Target{
		"nbd://host/disk":                           {Network: "tcp", Address: "host:10809", Export: "disk"},
		"nbd://host:1234/":                          {Network: "tcp", Address: "host:1234"},
		"nbd://host":                                {Network: "tcp", Address: "host:10809"},
		"nbd://":                                    {Network: "tcp", Address: "localhost:10809"},
		"nbd:///disk":                               {Network: "tcp", Address: "localhost:10809", Export: "disk"},
		"nbd://[::1]/disk":                          {Network: "tcp", Address: "[::1]:10809", Export: "disk"},
		"nbd://[fe80::1%25eth0]:10/d":               {Network: "tcp", Address: "[fe80::1%eth0]:10", Export: "d"},
		"nbd://192.0.2.1:10810/vm1/vda@latest~1":    {Network: "tcp", Address: "192.0.2.1:10810", Export: "vm1/vda@latest~1"},
		"nbd://host//disk":                          {Network: "tcp", Address: "host:10809", Export: "/disk"},
		"nbd://host/a%20b%2Fc%3f+%23":               {Network: "tcp", Address: "host:10809", Export: "a b/c?+#"},
		"nbd://host/vm1:vda@2026-01-31T20:00:00Z":   {Network: "tcp", Address: "host:10809", Export: "vm1:vda@2026-01-31T20:00:00Z"},
		"nbd+unix:///?socket=/run/s":                {Network: "unix", Address: "/run/s"},
		"nbd+unix:///e?socket=/run/a%20+b%26c":      {Network: "unix", Address: "/run/a +b&c", Export: "e"},
		"nbd+unix:///vm1/vda@latest?socket=x.sock":  {Network: "unix", Address: "x.sock", Export: "vm1/vda@latest"},
		"nbd+unix://?socket=/run/s":                 {Network: "unix", Address: "/run/s"},
		"nbd://host/" + strings.Repeat("n", 4096):   {Network: "tcp", Address: "host:10809", Export: strings.Repeat("n", 4096)},
		"NBD://host/disk":                           {Network: "tcp", Address: "host:10809", Export: "disk"},
		"nbd+unix:///%C3%A4?socket=%2Ftmp%2F%C3%A4": {Network: "unix", Address: "/tmp/ä", Export: "ä"},
	} {
		got, err := ParseURI(uri)
		if err != nil || got.Network != want.Network || got.Address != want.Address || got.Export != want.Export || got.TLS != nil || got.Contexts != nil {
			t.Errorf("%.60s: %+v, %v; want %+v", uri, got, err, want)
		}
	}
}

// A URI that asks for TLS never makes a target without it.
func TestParseURIWithTLS(t *testing.T) {
	for uri, want := range map[string][3]string{
		"nbds://backup.example/d":                         {"tcp", "backup.example:10809", "backup.example"},
		"nbds://[::1]:99/d":                               {"tcp", "[::1]:99", "::1"},
		"nbds://10.0.0.1/d?tls-hostname=backup.example":   {"tcp", "10.0.0.1:10809", "backup.example"},
		"nbds+unix:///d?socket=/s":                        {"unix", "/s", "localhost"},
		"nbds+unix:///d?socket=/s&tls-hostname=b.example": {"unix", "/s", "b.example"},
		"NBDS://h/d": {"tcp", "h:10809", "h"},
	} {
		got, err := ParseURI(uri)
		if err != nil || got.TLS == nil || got.Network != want[0] || got.Address != want[1] || got.TLS.ServerName != want[2] || got.TLS.InsecureSkipVerify {
			t.Errorf("%s: %+v, %v", uri, got, err)
		}
	}
}

func TestBadURIs(t *testing.T) {
	for _, uri := range []string{
		"", "x", "/run/s", "nbd", "nbd:", "nbd:host:10809", "nbd:unix:/run/s:exportname=e", "nbd:/e", "http://host/d", "nbd+tcp://host/d", "nbd+vsock://1/",
		"nbd://user@host/d", "nbd://host:x/d", "nbd://host/d#part", "nbd://host/%zz", "nbd://host/%00", "nbd://[::1/d", "nbd://ho st/d",
		"nbd://host/d?socket=/s", "nbd+unix:///d", "nbd+unix:///d?socket=", "nbd+unix://host/d?socket=/s", "nbd+unix:///d?socket=%zz",
		"nbds://host/d?tls-certificates=/etc/pki", "nbds://host/d?tls-verify-peer=false", "nbd://host/d?a", "nbd://host/" + strings.Repeat("n", 4097),
		"nbd://host:0/d", "nbd://host:65536/d", "nbd+unix:///d?socket=/a&socket=/b", "nbd+unix:///d?socket=/a%00b",
	} {
		if got, err := ParseURI(uri); err == nil {
			t.Errorf("%.60q: %+v", uri, got)
		} else if !strings.HasPrefix(err.Error(), "NBD URI ") {
			t.Errorf("%.60q: %v", uri, err)
		}
	}
}

// FuzzParseURI: whatever is accepted can be dialled as far as its form goes.
func FuzzParseURI(f *testing.F) {
	for _, s := range []string{"nbd://host/e", "nbds://[::1]:9/a%20b?tls-hostname=x", "nbd+unix:///e?socket=/s", "nbds+unix:///?socket=%2fs&tls-hostname=", "nbd://a@b/#?&;=%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		got, err := ParseURI(uri)
		if err != nil {
			return
		}
		scheme := strings.ToLower(uri[:strings.Index(uri, ":")])
		if (got.TLS != nil) != strings.HasPrefix(scheme, "nbds") || (got.Network == "unix") != strings.HasSuffix(scheme, "unix") {
			t.Fatalf("%+v", got)
		}
		if got.Address == "" || len(got.Export) > nameMax || strings.ContainsRune(got.Export+got.Address, 0) || got.TLS != nil && got.TLS.ServerName == "" {
			t.Fatalf("%+v", got)
		}
	})
}
