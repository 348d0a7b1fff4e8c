package main

import (
	"strings"
	"testing"

	"github.com/strongroom-backup/strongroom/server/api"
)

func TestBlockdev(t *testing.T) {
	const delay = ",reconnect-delay=300,discard=unmap"
	tcp, unix := "nbd://10.0.0.1:10809/tok", "nbd+unix:///tok?socket=/run/sr/nbd.sock"
	for _, x := range []struct {
		name  string
		disk  api.CloneDisk
		local bool
		want  string
		tls   bool
	}{
		{"on the host", api.CloneDisk{URI: tcp, UnixURI: unix}, true, "server.type=unix,server.path=/run/sr/nbd.sock,export=tok", false},
		{"elsewhere", api.CloneDisk{URI: tcp, UnixURI: unix}, false, "server.type=inet,server.host=10.0.0.1,server.port=10809,export=tok", false},
		{"only TCP", api.CloneDisk{URI: tcp}, true, "server.type=inet,server.host=10.0.0.1,server.port=10809,export=tok", false},
		{"only a socket", api.CloneDisk{UnixURI: unix}, false, "server.type=unix,server.path=/run/sr/nbd.sock,export=tok", false},
		{"TLS, IPv6", api.CloneDisk{URI: "nbds://[::1]:7/tok"}, false, "server.type=inet,server.host=::1,server.port=7,tls-creds=tls0,export=tok", true},
		{"a comma", api.CloneDisk{UnixURI: "nbd+unix:///tok?socket=/a,b/nbd.sock"}, true, "server.type=unix,server.path=/a,,b/nbd.sock,export=tok", false},
	} {
		x.disk.Export = "tok"
		got, tls := blockdev(x.disk, "n", x.local)
		if want := "driver=nbd,node-name=n," + x.want + delay; got != want || tls != x.tls {
			t.Errorf("%s: %s, %v", x.name, got, tls)
		}
	}
	got, _ := blockdev(api.CloneDisk{Export: "tok", UnixURI: "nbd+unix:///tok?socket=/a%20b/it%27s"}, "n", true)
	if !strings.HasPrefix(got, "'driver=") || !strings.Contains(got, `server.path=/a b/it'\''s,`) {
		t.Errorf("in a shell: %s", got)
	}
	if got, _ := blockdev(api.CloneDisk{Export: "tok"}, "n", true); got != "" {
		t.Errorf("of a server that serves no NBD: %s", got)
	}
}

func TestNodeName(t *testing.T) {
	for disk, want := range map[string]string{
		"vda": "vda", "drive-virtio-disk0": "drive-virtio-disk0", "0": "disk3", "8f2c": "disk3", strings.Repeat("a", 31): strings.Repeat("a", 31), strings.Repeat("a", 32): "disk3",
	} {
		if got := nodeName(disk, 3); got != want {
			t.Errorf("%s: %s", disk, got)
		}
	}
}
