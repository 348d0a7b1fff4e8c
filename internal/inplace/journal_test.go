package inplace

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var testTime = time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)

func testState(rng *rand.Rand, n int) *state {
	s := &state{Target: "/vm/disk.raw", Size: 1 << 40, Was: 1 << 30, Refs: []Ref{testRef}, Begun: testTime, touched: NewRanges(1 << 40)}
	for range n {
		s.touched.Add(rng.Int64N(1<<40), rng.Int64N(1<<20)+1)
	}
	return s
}

func TestJournalRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 20))
	for _, n := range []int{0, 1, 1000} {
		s := testState(rng, n)
		b, err := s.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(b)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.touched.spans(), s.touched.spans()) {
			t.Error("ranges differ")
		}
		got.touched = s.touched
		if !reflect.DeepEqual(got, s) {
			t.Errorf("%+v, want %+v", got, s)
		}
	}
}

// No damage to a journal passes.
func TestJournalDamaged(t *testing.T) {
	s := testState(rand.New(rand.NewPCG(seed(t), 21)), 20)
	whole, err := s.encode()
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		bad := slices.Clone(whole)
		bad[i] ^= 4
		if _, err := decode(bad); !errors.Is(err, ErrJournal) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		if _, err := decode(whole[:i]); !errors.Is(err, ErrJournal) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
}

func FuzzJournal(f *testing.F) {
	for n := range 3 {
		b, err := testState(rand.New(rand.NewPCG(1, 1)), n).encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		// The checksum is no obstacle: what is behind it is tried as well.
		for _, b := range [][]byte{b, reseal(b)} {
			s, err := decode(b)
			if err != nil {
				continue
			}
			again, err := s.encode()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := decode(again); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A damaged journal is refused, with what to do; doing it heals the target.
func TestDamagedJournalRefused(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 22))
	p := &point{content: newContent(rng, 1<<20)}
	have := newContent(rng, 1<<20)
	target := open(t, writeFile(t, have))
	r := job(t, p, target)
	if err := os.WriteFile(r.Journal, []byte("SRINPL\x00\x01 and so on, and so on, and so on"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := r.Run(t.Context())
	if !errors.Is(err, ErrJournal) || !strings.Contains(err.Error(), "move it away") {
		t.Fatal(err)
	}
	mustHold(t, target, have)
	if err := os.Rename(r.Journal, r.Journal+".bad"); err != nil {
		t.Fatal(err)
	}
	mustRun(t, r)
	mustHold(t, target, p.content)
}

// Two restores into one target never meet, also when the journal is replaced and
// removed meanwhile.
func TestOneAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	s := testState(rand.New(rand.NewPCG(1, 1)), 1)
	for range 50 {
		a, err := openJournal(path)
		if err != nil {
			t.Fatal(err)
		}
		refused := func() {
			t.Helper()
			if b, err := openJournal(path); !errors.Is(err, ErrBusy) {
				b.close()
				t.Fatal(err)
			}
		}
		refused()
		if err := a.replace(s); err != nil {
			t.Fatal(err)
		}
		refused()
		if err := a.remove(); err != nil {
			t.Fatal(err)
		}
		b, err := openJournal(path) // the next run may begin
		if err != nil {
			t.Fatal(err)
		}
		a.close()
		if _, err := os.Stat(path); err != nil {
			t.Fatal("the end of one run removed the journal of the next")
		}
		b.close()
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("an empty journal is left")
	}
}

func TestJournalElsewhere(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 23))
	p := &point{content: newContent(rng, 1<<20)}
	mine := filepath.Join(t.TempDir(), "mine")
	c := &counted{Target: open(t, writeFile(t, make([]byte, 1<<20))), stopAt: 1}
	r := job(t, p, c)
	r.Journal = mine
	if _, err := r.Run(t.Context()); !errors.Is(err, errStopped) {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other.raw")
	if err := os.WriteFile(other, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	r.Target = open(t, other)
	if _, err := r.Run(t.Context()); !errors.Is(err, ErrJournal) {
		t.Fatalf("the journal of another target was taken: %v", err)
	}
	for _, path := range []string{t.TempDir(), filepath.Join(t.TempDir(), "no", "where")} {
		r.Journal = path
		if _, err := r.Run(t.Context()); err == nil {
			t.Errorf("%s was a journal", path)
		}
	}
	c.stopAt, r.Target, r.Journal = 0, c, mine
	if res := mustRun(t, r); res.Found == nil {
		t.Error("the journal was not found")
	}
	mustHold(t, c, p.content)
}

// reseal gives what a fuzzer made a checksum that matches.
func reseal(b []byte) []byte {
	if len(b) < 4 {
		return nil
	}
	b = slices.Clip(b[:len(b)-4])
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}
