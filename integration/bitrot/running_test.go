package bitrot

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestWhileRunning damages files that the engines have open already. What they
// read later may fail, but it is never wrong, nor is what is made of it.
func TestWhileRunning(t *testing.T) {
	seed := seedOf(t)
	w, _, err := build(seed)
	if err != nil {
		t.Fatal(err)
	}
	classes, err := w.classes()
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(seed, 11))
	failed := 0
	for _, class := range []string{"journal: raw", "journal: chunk", "journal: map", "sealed pack: frame", "open pack: frame",
		"sealed pack: TOC 1", "catalog table: data block"} {
		for range 3 * soak(t) {
			places := classes[class]
			c := places[rng.IntN(len(places))].spoil([]kind{flip, zero}[rng.IntN(2)], nil, rng)
			if c == nil {
				continue
			}
			x, err := tryRunning(c)
			if err != nil {
				t.Errorf("seed %d: %v: %v", seed, c, err)
			}
			if len(x.lost) > 0 {
				failed++
			}
		}
	}
	t.Logf("%d times something could not be read", failed)
}

// tryRunning makes the damage behind the engines' back and reads everything.
func tryRunning(c *cell) (*trial, error) {
	t := &trial{cell: c, fs: c.w.fs.Kill(), lost: map[string]error{}, harmed: c.harm()}
	if err := t.open(); err != nil {
		return t, err
	}
	for name, data := range c.files {
		f, err := t.fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
		if err == nil {
			_, err = f.WriteAt(append([]byte(nil), data...), 0)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			return t, err
		}
	}
	err := errors.Join(t.look(), t.e.stop())
	if err != nil && strings.HasPrefix(c.class, "catalog") && strings.Contains(err.Error(), "is rebuilt from the metadata log") {
		err = nil // it has noticed, and says so
	}
	return t, err
}
