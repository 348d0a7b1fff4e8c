package sftp_test

import (
	"bytes"
	"io"
	"testing"

	pkgsftp "github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// TestNewKeys changes the keys every 256 KiB while bytes go both ways.
func TestNewKeys(t *testing.T) {
	mem, s := serveMem(t, nil)
	config := s.ClientConfig()
	config.RekeyThreshold = 256 << 10
	conn, err := ssh.Dial("tcp", s.Addr, config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c, err := pkgsftp.NewClient(conn)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f, err := c.Create("/f")
	if err != nil {
		t.Fatal(err)
	}
	data := random(8 << 20)
	if _, err := f.ReadFrom(bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	got := new(bytes.Buffer)
	if _, err := f.WriteTo(got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), data) || !bytes.Equal(mem.Bytes("/f"), data) {
		t.Error("other bytes arrived")
	}
}
