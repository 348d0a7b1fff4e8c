package sftp_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/strongroom-backup/strongroom/sftp"
	"github.com/strongroom-backup/strongroom/sftp/sftptest"
)

func TestFirst(t *testing.T) {
	mem := sftptest.New()
	s := sftptest.Start(t, func(sftp.Conn) (sftp.Tree, error) { return mem.Tree(), nil }, nil)
	c := s.Dial(t)
	f, err := c.Create("/a")
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("0123456789abcdef"), 100000)
	if _, err := f.Write(want); err != nil {
		t.Fatal(err)
	}
	f.Seek(0, 0)
	got, err := io.ReadAll(f)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatal(err, len(got))
	}
	f.Close()
	l, err := c.ReadDir("/")
	t.Log(l, err)
	t.Log(s.Connections())
}
