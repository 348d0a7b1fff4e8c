package bitrot

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/dedup"
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
			x, err := tryRunning(c, rng.IntN(2) == 0)
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

// tryRunning makes the damage behind the engines' back and reads everything,
// perhaps after packs were written anew from what is damaged.
func tryRunning(c *cell, compress bool) (*trial, error) {
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
	if compress {
		if err := t.compress(); err != nil {
			return t, err
		}
	}
	err := errors.Join(t.look(), t.e.stop())
	if err != nil && strings.HasPrefix(c.class, "catalog") && strings.Contains(err.Error(), "is rebuilt from the metadata log") {
		err = nil // it has noticed, and says so
	}
	return t, err
}

// compress compresses what waits, but for the packs whose damage it meets.
func (t *trial) compress() error {
	if _, err := t.e.store.SealLater(true); err != nil {
		return err
	}
	for _, pack := range t.e.store.LaterPacks() {
		if _, err := t.e.store.CompressPack(context.Background(), pack, nil); err != nil && !errors.Is(err, dedup.ErrDamaged) {
			return err
		}
	}
	return nil
}
