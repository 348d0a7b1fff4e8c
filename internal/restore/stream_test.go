package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/nbdclient"
)

// memorySource is a disk in memory with some of its zeros told.
type memorySource struct {
	*bytes.Reader
	extents []nbdclient.Extent
	reads   atomic.Int64
	fail    int64 // the read that fails, from 1
}

func (s *memorySource) Extents(yield func(nbdclient.Extent) error) error {
	for _, e := range s.extents {
		if err := yield(e); err != nil {
			return err
		}
	}
	return nil
}

var errRead = errors.New("cannot read")

func (s *memorySource) ReadAt(p []byte, off int64) (int, error) {
	if s.reads.Add(1) == s.fail {
		return 0, errRead
	}
	return s.Reader.ReadAt(p, off)
}

// randomSource makes a disk whose holes begin and end anywhere.
func randomSource(r *rand.Rand) (*memorySource, []byte) {
	content := make([]byte, 1+r.IntN(12<<20))
	s := &memorySource{}
	noise := rand.NewChaCha8([32]byte{byte(r.Uint32()), 1})
	zero := r.IntN(2) == 0
	for off := 0; off < len(content); zero = !zero {
		n := 1 + r.IntN([]int{1000, BlockSize, 5 * BlockSize, 3 << 20}[r.IntN(4)])
		n = min(n, len(content)-off)
		if !zero {
			noise.Read(content[off:][:n])
		}
		s.extents = append(s.extents, nbdclient.Extent{Offset: int64(off), Length: int64(n), Zero: zero})
		off += n
	}
	s.Reader = bytes.NewReader(content)
	return s, content
}

// TestBlockExtents checks what it promises.
func TestBlockExtents(t *testing.T) {
	r := seeded(t)
	for range 50 {
		s, content := randomSource(r)
		for _, least := range []int64{0, BlockSize, longZeros} {
			end, last := int64(0), nbdclient.Extent{}
			err := blockExtents(s, least, func(e nbdclient.Extent) error {
				stop := e.Offset + e.Length
				switch {
				case e.Offset != end || e.Length <= 0 || e.Offset%BlockSize != 0, stop%BlockSize != 0 && stop != s.Size():
					return fmt.Errorf("%+v after %d", e, end)
				case last.Length > 0 && last.Zero == e.Zero:
					return fmt.Errorf("%+v after one of its kind", e)
				case e.Zero && e.Length < least && stop < s.Size():
					return fmt.Errorf("%+v is short", e)
				case e.Zero && len(bytes.Trim(content[e.Offset:stop], "\x00")) > 0:
					return fmt.Errorf("%+v is data", e)
				}
				end, last = stop, e
				return nil
			})
			if err != nil || end != s.Size() {
				t.Fatalf("least %d: %v; the end is %d of %d", least, err, end, s.Size())
			}
		}
	}
}

// TestStream compares streams with the disk.
func TestStream(t *testing.T) {
	r := seeded(t)
	for range 5 {
		s, content := randomSource(r)
		for _, format := range []Format{Raw, QCOW2} {
			d := Disk{Size: s.Size(), Format: format}
			var out bytes.Buffer
			var told atomic.Int64
			var total int64
			d.Events = Events{Begin: func(_ string, n int64) { total = n }, Progress: func(n int64) { told.Add(n) }}
			res, err := d.stream(t.Context(), s, &out)
			if err != nil || !equalHash(res.Hash, reference(content)) || told.Load() != total {
				t.Fatalf("%s: %v, or the hash is wrong; %d of %d told", format, err, told.Load(), total)
			}
			if format == Raw && !bytes.Equal(out.Bytes(), content) {
				t.Fatal("the stream is not the disk")
			}
			if format == QCOW2 {
				file, raw := filepath.Join(t.TempDir(), "q"), filepath.Join(t.TempDir(), "r")
				if err := errors.Join(os.WriteFile(file, out.Bytes(), 0o600), os.WriteFile(raw, content, 0o600)); err != nil {
					t.Fatal(err)
				}
				if out, err := exec.Command("qemu-img", "check", file).CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				if out, err := exec.Command("qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, file).CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
			}
		}
	}
}

// failingWriter takes some bytes.
type failingWriter struct{ left int }

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, io.ErrShortWrite
	}
	return len(p), nil
}

// TestStreamEnds at the first error, with it, and leaves nothing running.
func TestStreamEnds(t *testing.T) {
	r := seeded(t)
	for range 20 {
		s, _ := randomSource(r)
		d := Disk{Size: s.Size(), Format: Raw}
		if _, err := d.stream(t.Context(), s, &failingWriter{r.IntN(int(s.Size()))}); !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("error %v", err)
		}
		n := s.reads.Load()
		if s.reads.Store(0); n > 0 {
			s.fail = 1 + r.Int64N(n)
			if _, err := d.stream(t.Context(), s, io.Discard); !errors.Is(err, errRead) && s.reads.Load() >= s.fail {
				t.Errorf("error %v", err)
			}
		}
		ctx, stop := context.WithCancelCause(t.Context())
		stop(errRead)
		if _, err := d.stream(ctx, s, io.Discard); !errors.Is(err, errRead) && !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	}
}
