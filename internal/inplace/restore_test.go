package inplace

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/hashstream"
)

// A file that is anything becomes the point, whatever its length is.
func TestCompareEverything(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 1))
	for _, size := range []int{512, block, 5*block + 512, 3<<20 + 4096, 17<<20 - 1536} {
		p := &point{content: newContent(rng, size)}
		have := bytes.Clone(p.content)
		for range 20 {
			change(rng, have, 100_000)
		}
		target := open(t, writeFile(t, have))
		r := job(t, p, target)
		r.Verify = true
		res := mustRun(t, r)
		mustHold(t, target, p.content)
		if res.Compared != int64(size) || res.Skipped != 0 || !res.Verified || res.Mapped {
			t.Errorf("size %d: %+v", size, res)
		}
		again := mustRun(t, r)
		if again.Written+again.Zeroed+again.Fetched != 0 {
			t.Errorf("the second time something is written: %+v", again)
		}
	}
}

// What is zeros on both sides is not read, and zeros become holes.
func TestHoles(t *testing.T) {
	const size = 64 << 20
	p := &point{content: make([]byte, size)}
	have := make([]byte, size)
	rng := rand.New(rand.NewPCG(seed(t), 2))
	fill(rng, have[8<<20:10<<20])
	fill(rng, p.content[30<<20:31<<20])
	path := writeFile(t, have)
	c := &counted{Target: open(t, path)}
	res := mustRun(t, job(t, p, c))
	mustHold(t, c.Target, p.content)
	if c.read.Load() > 8<<20 || res.Zeroed != 2<<20 || res.Written != 1<<20 || c.syncs.Load() != 1 {
		t.Errorf("%d bytes were read; %+v", c.read.Load(), res)
	}
	out, err := exec.Command("du", "--block-size=1", path).Output()
	if err != nil || !strings.HasPrefix(string(out), "1048576\t") {
		t.Errorf("du: %s, %v", out, err)
	}
}

// Only the pieces of 4 KiB that differ are written.
func TestPieces(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 3))
	p := &point{content: make([]byte, 4<<20)}
	fill(rng, p.content)
	have := bytes.Clone(p.content)
	have[100_000]++
	have[200_000]++
	have[204_900]++ // the next piece
	clear(p.content[409_600:][:8192])
	target := open(t, writeFile(t, have))
	res := mustRun(t, job(t, p, target))
	mustHold(t, target, p.content)
	if res.Written != 3*4096 || res.Zeroed != 8192 || res.Fetched != 3*block {
		t.Errorf("%+v", res)
	}
}

func TestSizes(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 4))
	for _, size := range []int{1 << 20, 3<<20 + 512, 9 << 20} {
		p := &point{content: newContent(rng, size)}
		have := newContent(rng, 3<<20)
		target := open(t, writeFile(t, have))
		r := job(t, p, target)
		if _, err := r.Run(t.Context()); !errors.Is(err, ErrSize) {
			t.Fatalf("size %d: %v", size, err)
		}
		mustHold(t, target, have)
		if _, err := os.Lstat(r.Journal); err == nil {
			t.Fatal("a refused restore left a journal")
		}
		r.Resize = true
		mustRun(t, r)
		mustHold(t, target, p.content)
	}
	// A file that was made a moment ago.
	p := &point{content: newContent(rng, 3<<20)}
	target := open(t, writeFile(t, nil))
	r := job(t, p, target)
	r.Resize = true
	mustRun(t, r)
	mustHold(t, target, p.content)
}

// A map of what the target was is still one when restores that gave it another
// size broke down.
func TestMapOfWhatItWas(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 8))
	have := newContent(rng, 3<<20)
	p := &point{content: bytes.Clone(have[:2<<20])}
	fill(rng, p.content[1<<20:][:4096])
	fill(rng, have[3<<20-4096:])
	c := &counted{Target: open(t, writeFile(t, have))}
	r := job(t, p, c)
	r.Resize = true
	r.Dirty = &Dirty{Ranges: NewRanges(sizeMax), Size: 3 << 20}
	r.Dirty.add(1<<20, 4096)
	r.Dirty.add(3<<20-4096, 4096)
	for range 2 {
		p.fail.Store(1) // after it has been made shorter
		p.count.Store(0)
		if _, err := r.Run(t.Context()); !errors.Is(err, errSource) || c.Size() != 2<<20 {
			t.Fatalf("%d bytes, %v", c.Size(), err)
		}
		p.fail.Store(0)
		c.stopAt = 1
		c.writes.Store(0)
		if _, err := r.Run(t.Context()); !errors.Is(err, errStopped) {
			t.Fatal(err)
		}
		c.stopAt = 0
	}
	mustRun(t, r)
	mustHold(t, c, p.content)
}

func TestRefusesQcow2(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vm.qcow2")
	if out, err := exec.Command("qemu-img", "create", "-f", "qcow2", path, "16M").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p := &point{content: newContent(rand.New(rand.NewPCG(1, 1)), 16<<20)}
	r := job(t, p, open(t, path))
	r.Resize = true
	if _, err := r.Run(t.Context()); !errors.Is(err, ErrTarget) || !strings.Contains(err.Error(), "qemu-nbd") {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Fatalf("the image was touched (%v)", err)
	}
}

func TestRefusesOtherTargets(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{dir, filepath.Join(dir, "nothing"), "/dev/null", "nbd://", "nbd+unix:///x", "nbdx://y/z"} {
		if target, err := Open(t.Context(), name); err == nil {
			target.Close()
			t.Errorf("%s was opened", name)
		}
	}
}

// A server that breaks down before the first write leaves everything as it was;
// later it leaves a journal that tells what is mixed.
func TestServerBreaksDown(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 5))
	p := &point{content: newContent(rng, 20<<20)}
	have := newContent(rng, 20<<20)
	target := open(t, writeFile(t, have))
	r := job(t, p, target)
	for name, hashes := range map[string]func(io.Writer, *point) error{
		"cut":    func(w io.Writer, p *point) error { return sendSome(w, p, nil) },
		"failed": func(w io.Writer, p *point) error { return sendSome(w, p, &hashstream.FailureError{Text: "broken"}) },
		"damaged": func(w io.Writer, p *point) error {
			return sendSome(w, p, &hashstream.FailureError{Text: "rot", Damage: true})
		},
	} {
		p.hashes = hashes
		_, err := r.Run(t.Context())
		var mixed *MixedError
		if err == nil || errors.As(err, &mixed) || errors.Is(err, ErrDamaged) != (name == "damaged") {
			t.Errorf("%s: %v", name, err)
		}
		mustHold(t, target, have)
		if _, err := os.Lstat(r.Journal); err == nil {
			t.Errorf("%s: a journal", name)
		}
	}
	p.hashes = nil
	p.fail.Store(10)
	res, err := r.Run(t.Context())
	var mixed *MixedError
	if !errors.Is(err, errSource) || !errors.As(err, &mixed) || res.Mixed == nil || !strings.Contains(err.Error(), testRef.String()) {
		t.Fatal(err)
	}
	p.fail.Store(0)
	res = mustRun(t, r)
	if res.Found == nil || res.Found.Refs[0] != testRef || res.Mixed != nil {
		t.Errorf("%+v", res)
	}
	mustHold(t, target, p.content)
}

func sendSome(w io.Writer, p *point, end *hashstream.FailureError) error {
	s, err := hashstream.NewWriter(w, p.Size())
	if err == nil {
		err = s.Hashes(make([]hashstream.Hash, 100))
	}
	if err == nil && end != nil {
		err = s.Fail(*end)
	}
	return err
}

func TestCancelled(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 6))
	p := &point{content: newContent(rng, 20<<20)}
	ctx, cancel := context.WithCancel(t.Context())
	c := &counted{Target: open(t, writeFile(t, make([]byte, 20<<20))), onWrite: func(n int64) {
		if n == 7 {
			cancel()
		}
	}}
	r := job(t, p, c)
	_, err := r.Run(ctx)
	var mixed *MixedError
	if !errors.Is(err, context.Canceled) || !errors.As(err, &mixed) {
		t.Fatal(err)
	}
	mustRun(t, r)
	mustHold(t, c, p.content)
}

// A map that leaves something out is found out by verification, and not believed
// again.
func TestWrongMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 7))
	p := &point{content: make([]byte, 20<<20)}
	fill(rng, p.content)
	have := bytes.Clone(p.content)
	have[1<<20]++
	have[9<<20]++
	target := open(t, writeFile(t, have))
	r := job(t, p, target)
	r.Dirty = newDirty()
	r.Dirty.add(1<<20, 1)
	res := mustRun(t, r) // believed
	if res.Compared != 4096 || res.Written+res.Zeroed != 4096 {
		t.Errorf("%+v", res)
	}
	r.Verify = true
	_, err := r.Run(t.Context())
	var wrong *VerifyError
	if !errors.As(err, &wrong) || wrong.First != 9<<20 || wrong.Bytes != block || !wrong.Mapped {
		t.Fatal(err)
	}
	if res = mustRun(t, r); res.Mapped || res.Written+res.Zeroed != 4096 {
		t.Errorf("the map was believed again: %+v", res)
	}
	mustHold(t, target, p.content)
}

func TestMapOfAnotherDisk(t *testing.T) {
	p := &point{content: make([]byte, 1<<20)}
	target := open(t, writeFile(t, make([]byte, 1<<20)))
	for _, d := range []*Dirty{
		{Ranges: NewRanges(sizeMax), Size: 2 << 20},
		{Ranges: NewRanges(sizeMax), End: 1<<20 + 1},
	} {
		r := job(t, p, target)
		r.Dirty = d
		if _, err := r.Run(t.Context()); !errors.Is(err, ErrDirty) {
			t.Errorf("%+v: %v", d, err)
		}
	}
}
