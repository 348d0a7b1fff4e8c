package imports

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
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newRand is a generator that STRONGROOM_SEED repeats.
func newRand(t testing.TB) *rand.Rand {
	n := uint64(time.Now().UnixNano())
	if s := os.Getenv("STRONGROOM_SEED"); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("STRONGROOM_SEED=%d", n)
	return rand.New(rand.NewPCG(n, 0))
}

// randomDisk has data, zeros and stretches with one byte that is not zero.
func randomDisk(rng *rand.Rand, size int) []byte {
	disk := make([]byte, size)
	for off := 0; off < size; {
		n := min(size-off, 1+rng.IntN(1<<(8+rng.IntN(14))))
		switch part := disk[off:][:n]; rng.IntN(4) {
		case 0:
			for i := range part {
				part[i] = byte(rng.Uint32())
			}
		case 1:
			part[rng.IntN(n)] = 1
		}
		off += n
	}
	return disk
}

// backup is a server's side: disks to be written, each byte once.
type backup struct {
	t     testing.TB
	disks []*target
	fail  func(disk int, off int64) error // of a write or zeroing; nil: none

	open, opened, most atomic.Int64
}

// target is a disk of a backup.
type target struct {
	mu      sync.Mutex
	content []byte
	written []bool // by blocks
	writes  int
	bytes   int64 // that came as data
}

// openTarget is an open target, of which one may be there at a time.
type openTarget struct {
	b      *backup
	disk   int
	busy   atomic.Int64
	closed atomic.Bool
}

func newBackup(t testing.TB, s *Source) *backup {
	b := &backup{t: t}
	for _, d := range s.Disks {
		b.disks = append(b.disks, &target{content: bytes.Repeat([]byte{0xee}, int(d.Size)), written: make([]bool, (d.Size+blockSize-1)/blockSize)})
	}
	return b
}

func (b *backup) dial(_ context.Context, disk int) (Device, error) {
	b.opened.Add(1)
	n := b.open.Add(1)
	for most := b.most.Load(); n > most && !b.most.CompareAndSwap(most, n); most = b.most.Load() {
	}
	return &openTarget{b: b, disk: disk}, nil
}

func (o *openTarget) WriteAt(p []byte, off int64) (int, error) {
	return len(p), o.do(off, int64(len(p)), func(to []byte) int64 { return int64(copy(to, p)) })
}

func (o *openTarget) Zero(off, n int64) error {
	return o.do(off, n, func(to []byte) int64 { clear(to); return 0 })
}

func (o *openTarget) do(off, n int64, change func(to []byte) int64) error {
	o.busy.Add(1)
	defer o.busy.Add(-1)
	if o.closed.Load() {
		return errors.New("used after it was closed")
	}
	if o.b.fail != nil {
		if err := o.b.fail(o.disk, off); err != nil {
			return err
		}
	}
	d := o.b.disks[o.disk]
	d.mu.Lock()
	defer d.mu.Unlock()
	end := off + n
	if n <= 0 || off%blockSize != 0 || end%blockSize != 0 && end != int64(len(d.content)) {
		return fmt.Errorf("%d bytes at %d are not whole blocks", n, off)
	}
	for i := off / blockSize; i*blockSize < end; i++ {
		if d.written[i] {
			return fmt.Errorf("block %d is written twice", i)
		}
		d.written[i] = true
	}
	d.writes++
	d.bytes += change(d.content[off:end])
	return nil
}

func (o *openTarget) Close() error {
	if o.closed.Swap(true) || o.busy.Load() != 0 {
		o.b.t.Error("closed twice, or while it is written")
	}
	o.b.open.Add(-1)
	return nil
}

// bring imports all of what o says.
func bring(t testing.TB, o Options) (*Source, *backup, error) {
	t.Helper()
	s, err := Open(t.Context(), o)
	if err != nil {
		return nil, nil, err
	}
	defer s.Close()
	b := newBackup(t, s)
	var done atomic.Int64
	err = s.Copy(t.Context(), b.dial, func(n int64) { done.Add(n) })
	if n := b.open.Load(); n != 0 {
		t.Errorf("%d disks are still open", n)
	}
	if err == nil && done.Load() != s.Size() {
		t.Errorf("progress of %d bytes, want %d", done.Load(), s.Size())
	}
	return s, b, err
}

// check compares what came with what should have, by the disks' names.
func check(t testing.TB, s *Source, b *backup, want map[string][]byte) {
	t.Helper()
	if len(s.Disks) != len(want) {
		t.Fatalf("disks %v, want %d", s.Disks, len(want))
	}
	for i, d := range s.Disks {
		if !bytes.Equal(b.disks[i].content, want[d.Name]) {
			t.Errorf("disk %s is another", d.Name)
		}
	}
}

func mustBring(t testing.TB, o Options, want map[string][]byte) (*Source, *backup) {
	t.Helper()
	s, b, err := bring(t, o)
	if err != nil {
		t.Fatal(err)
	}
	check(t, s, b, want)
	return s, b
}

// put writes a file, with holes where there are zeros.
func put(t testing.TB, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	f, err := os.Create(path)
	if err == nil {
		err = f.Truncate(int64(len(content)))
	}
	for off := 0; err == nil && off < len(content); off += 4096 {
		if p := content[off:min(off+4096, len(content))]; len(bytes.Trim(p, "\x00")) > 0 {
			_, err = f.WriteAt(p, int64(off))
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func command(t testing.TB, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// pipe is content that comes in pieces of any length.
type pipe struct {
	content []byte
	rng     *rand.Rand
}

func (p *pipe) Read(b []byte) (int, error) {
	if len(p.content) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.content[:1+p.rng.IntN(min(len(p.content), 100_000))])
	p.content = p.content[n:]
	return n, nil
}
