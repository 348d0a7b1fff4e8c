package sftp_test

import (
	"encoding/binary"
	"io"
	"io/fs"
	"testing"
	"time"

	sshfx "github.com/pkg/sftp/v2/encoding/ssh/filexfer"

	"github.com/strongroom-backup/strongroom/sftp"
	"github.com/strongroom-backup/strongroom/sftp/sftptest"
)

// nowhere is a tree whose one file takes every byte and gives zeros.
type nowhere struct{ sftp.Tree }

func (nowhere) Open(string, sftp.OpenFlags, fs.FileMode) (sftp.File, error) { return void{}, nil }
func (nowhere) Close() error                                                { return nil }

type void struct{}

func (void) ReadAt(p []byte, _ int64) (int, error)  { return len(p), nil }
func (void) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (void) Stat() (sftp.Attr, error)               { return sftp.Attr{ModTime: time.Now()}, nil }
func (void) SetAttr(sftp.Changes) error             { return nil }
func (void) Sync() error                            { return nil }
func (void) Close() error                           { return nil }
func (void) Abandon() error                         { return nil }

// inFlight is how many requests the benchmarks keep under way, as sshfs does.
const inFlight = 64

// BenchmarkBytes sends and fetches bytes through SSH on loopback; both ends use
// this machine's processors.
func BenchmarkBytes(b *testing.B) {
	for _, size := range []struct {
		name  string
		bytes int
	}{{"32K", 32 << 10}, {"64K", 64 << 10}, {"255K", 255 << 10}} {
		b.Run("write/"+size.name, func(b *testing.B) { benchmark(b, size.bytes, true) })
		b.Run("read/"+size.name, func(b *testing.B) { benchmark(b, size.bytes, false) })
	}
}

func benchmark(b *testing.B, size int, write bool) {
	s := sftptest.Start(b, func(sftp.Conn) (sftp.Tree, error) { return nowhere{}, nil }, nil)
	w := newWire(b, s)
	h := w.open("/a", 0x1a|1)
	request := w.packet(sshfx.PacketTypeRead, 0, h, uint64(0), uint32(size))
	if write {
		request = w.packet(sshfx.PacketTypeWrite, 0, h, uint64(0), make([]byte, size))
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	slots := make(chan struct{}, inFlight)
	replies := make(chan error, 1)
	go func() { replies <- w.skip(b.N, slots) }()
	for range b.N {
		slots <- struct{}{}
		if _, err := w.out.Write(request); err != nil {
			b.Fatal(err)
		}
	}
	if err := <-replies; err != nil {
		b.Fatal(err)
	}
}

// skip reads n replies without looking into them.
func (w *wire) skip(n int, slots chan struct{}) error {
	var head [4]byte
	for range n {
		if _, err := io.ReadFull(w.in, head[:]); err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, w.in, int64(binary.BigEndian.Uint32(head[:]))); err != nil {
			return err
		}
		<-slots
	}
	return nil
}
