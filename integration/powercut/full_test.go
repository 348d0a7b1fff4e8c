package powercut

import (
	"errors"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
)

// TestFullDisk fills a small disk. The client hears of it; what was committed
// stays; a restart and the removal of points work on the full disk; once there
// is room the same session goes on.
func TestFullDisk(t *testing.T) {
	seed := seedOf(t)
	for round := range 8 * soak(t) {
		rng := rand.New(rand.NewPCG(seed, uint64(round)))
		fs := crashfs.New()
		e, err := start(fs, bootID(1), mustLive)
		if err != nil {
			t.Fatal(err)
		}
		fs.SetCapacity(reserve + 1<<20 + rng.Int64N(2<<20))
		d := &driver{e: e, m: newModel(), rng: rng, vm: "alpha"}
		if err := fill(d); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("round %d: the disk is full and the client hears %v", round, err)
		}
		fs = fs.Kill() // its disk is as full
		if e, err = start(fs, bootID(1), mustLive); err != nil {
			t.Fatalf("round %d: restart on the full disk: %v", round, err)
		}
		if d.e = e; inspect(e, d.m, false) != nil {
			t.Fatalf("round %d: %v", round, inspect(e, d.m, false))
		}
		if err := d.removeAll(); err != nil {
			t.Errorf("round %d: on the full disk: %v", round, err)
		}
		fs.SetCapacity(0)
		if err := goOn(e, d.m, rng); err != nil {
			t.Errorf("round %d: with room again: %v", round, err)
		}
		if err := e.stop(); err != nil {
			t.Error(err)
		}
	}
}

// fill writes new data until something fails, with a commit now and then.
func fill(d *driver) error {
	for i := range 500 {
		s := d.openSession()
		if s == nil {
			if err := d.start(); err != nil {
				return err
			}
			continue
		}
		if i%15 == 14 {
			if err := d.commit(s); err != nil {
				return errors.Join(err, d.giveWay(false))
			}
			continue
		}
		k := d.anyDisk(s)
		if err := d.write(s, k, newBlock(d.rng, 0), d.rng.Int64N(3)<<16); err != nil {
			return err
		}
	}
	return nil
}

// removeAll removes every point that no session needs.
func (d *driver) removeAll() error {
	for _, p := range d.m.all() {
		if len(d.e.InUse(p.id)) > 0 {
			continue
		}
		if err := d.remove(p); err != nil {
			return err
		}
	}
	return nil
}
