package inplace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/strongroom-backup/strongroom/internal/hashstream"
)

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		child()
		return
	}
	goleak.VerifyTestMain(m)
}

// seed is printed, and replayed with STRONGROOM_SEED.
func seed(t *testing.T) uint64 {
	t.Helper()
	n := uint64(time.Now().UnixNano())
	if text := os.Getenv("STRONGROOM_SEED"); text != "" {
		var err error
		if n, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("STRONGROOM_SEED=%d", n)
	return n
}

// point is a disk of a point, served from memory.
type point struct {
	content []byte
	reads   atomic.Int64 // bytes
	fail    atomic.Int64 // the read at which the source begins to fail; 0: never
	count   atomic.Int64
	hashes  func(io.Writer, *point) error // nil: what a server sends
}

var errSource = errors.New("the server broke down")

func (p *point) Size() int64 { return int64(len(p.content)) }

func (p *point) ReadAt(b []byte, off int64) (int, error) {
	if n := p.count.Add(1); p.fail.Load() > 0 && n >= p.fail.Load() {
		return 0, errSource
	}
	p.reads.Add(int64(len(b)))
	return copy(b, p.content[off:]), nil
}

func (p *point) Extents(off, n int64, yield func(int64, bool) bool) error {
	for n > 0 {
		k := min(n, hashstream.BlockSize-off%hashstream.BlockSize)
		if !yield(k, isZero(p.content[off:off+k])) {
			break
		}
		off, n = off+k, n-k
	}
	return nil
}

// stream is what Restore.Hashes wants.
func (p *point) stream(ctx context.Context) (io.ReadCloser, error) {
	r, w := io.Pipe()
	go func() {
		send := p.hashes
		if send == nil {
			send = func(w io.Writer, p *point) error {
				return hashstream.Send(ctx, w, &point{content: p.content}, func(err error) hashstream.FailureError {
					return hashstream.FailureError{Text: err.Error()}
				})
			}
		}
		w.CloseWithError(send(w, p))
	}()
	return r, nil
}

const block = hashstream.BlockSize

// newContent is a disk with data in about two of three blocks.
func newContent(rng *rand.Rand, size int) []byte {
	b := make([]byte, size)
	for off := 0; off < size; off += block {
		if rng.IntN(3) > 0 {
			fill(rng, b[off:min(off+block, size)])
		}
	}
	return b
}

func fill(rng *rand.Rand, b []byte) {
	var c [32]byte
	for i := range c {
		c[i] = byte(rng.Uint32())
	}
	rand.NewChaCha8(c).Read(b)
}

// change writes data or zeros somewhere; n at most.
func change(rng *rand.Rand, b []byte, n int) (off, end int) {
	off = rng.IntN(len(b))
	end = min(len(b), off+1+rng.IntN(n))
	if rng.IntN(4) == 0 {
		clear(b[off:end])
	} else {
		fill(rng, b[off:end])
	}
	return off, end
}

// writeFile makes a sparse file.
func writeFile(t testing.TB, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(int64(len(content))); err != nil {
		t.Fatal(err)
	}
	for off := 0; off < len(content); off += pieceBytes {
		if p := content[off:min(off+pieceBytes, len(content))]; !isZero(p) {
			if _, err := f.WriteAt(p, int64(off)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return path
}

func open(t testing.TB, name string) Target {
	t.Helper()
	target, err := Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { target.Close() })
	return target
}

var testRef = Ref{VM: "web1", Disk: "vda", Point: "0123456789abcdef"}

// job is a restore of p into target.
func job(t testing.TB, p *point, target Target) Restore {
	t.Helper()
	path, err := DefaultJournal(target)
	if err != nil {
		t.Fatal(err)
	}
	return Restore{Ref: testRef, Source: p, Target: target, Journal: path, Hashes: p.stream}
}

func mustRun(t testing.TB, r Restore) Result {
	t.Helper()
	res, err := r.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(r.Journal); err == nil {
		t.Fatalf("the journal %s is still there", r.Journal)
	}
	return res
}

// mustHold compares a target with what it should be.
func mustHold(t testing.TB, target Target, want []byte) {
	t.Helper()
	got := make([]byte, target.Size())
	for off := 0; off < len(got); off += 1 << 20 {
		if _, err := target.ReadAt(got[off:min(off+1<<20, len(got))], int64(off)); err != nil {
			t.Fatal(err)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("the target has %d bytes, want %d", len(got), len(want))
	}
	if err := differ(got, want); err != nil {
		t.Fatal(err)
	}
}

func differ(got, want []byte) error {
	if bytes.Equal(got, want) {
		return nil
	}
	for i := range got {
		if got[i] != want[i] {
			return fmt.Errorf("byte %d is %#x, want %#x", i, got[i], want[i])
		}
	}
	return nil
}

// counted counts what a restore does to a target, and may stop it.
type counted struct {
	Target
	read, written, zeroed, syncs atomic.Int64
	writes                       atomic.Int64
	stopAt                       int64 // the write that fails, and all after it; 0: none
	onWrite                      func(n int64)
	journal                      string // which must say something before each change, if it is not empty
}

var errStopped = errors.New("the target broke down")

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	c.read.Add(int64(len(p)))
	return c.Target.ReadAt(p, off)
}

func (c *counted) change() error {
	n := c.writes.Add(1)
	if st, err := os.Stat(c.journal); c.journal != "" && (err != nil || st.Size() == 0) {
		return fmt.Errorf("the target is changed without a journal: %v", err)
	}
	if c.onWrite != nil {
		c.onWrite(n)
	}
	if c.stopAt > 0 && n >= c.stopAt {
		return errStopped
	}
	return nil
}

func (c *counted) WriteAt(p []byte, off int64) (int, error) {
	if err := c.change(); err != nil {
		return 0, err
	}
	c.written.Add(int64(len(p)))
	return c.Target.WriteAt(p, off)
}

func (c *counted) Zero(off, n int64) error {
	if err := c.change(); err != nil {
		return err
	}
	c.zeroed.Add(n)
	return c.Target.Zero(off, n)
}

func (c *counted) Truncate(size int64) error {
	if err := c.change(); err != nil {
		return err
	}
	return c.Target.Truncate(size)
}

func (c *counted) Sync() error {
	c.syncs.Add(1)
	return c.Target.Sync()
}
