package dedup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"syscall"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
)

// sweepBase is a closed store with packs that are dead, part-dead and alive.
func sweepBase(t *testing.T) (fs *crashfs.FS, live, dead map[Addr]uint64) {
	t.Helper()
	fs = crashfs.New()
	testOptions(t, fs)
	s := openTest(t, lifeOptions(t, fs))
	ns := count(1, 60)
	addrs := storeSealed(t, s, ns)
	live, dead = map[Addr]uint64{}, map[Addr]uint64{}
	for i, a := range addrs {
		switch {
		case a.Pack() == 2, a.Pack() == 5:
			dead[a] = ns[i]
		case a.Pack() != 3 && i%2 == 0:
			dead[a] = ns[i]
		default:
			live[a] = ns[i]
		}
	}
	closeTest(t, s)
	return fs, live, dead
}

// TestEveryFailingOperationOfASweep fails each operation on the tier once, in
// every way, while packs are removed and compacted. No live block is lost, not
// by what comes afterwards either, and no file is synced twice.
func TestEveryFailingOperationOfASweep(t *testing.T) {
	base, live, dead := sweepBase(t)
	faults(t, base, func(t *testing.T, name string, s *Store) []error {
		c, err := s.BeginCollection()
		must(t, err)
		defer c.Close()
		for a := range live {
			c.Mark(a, 1)
		}
		_, err = c.Sweep(context.Background(), SweepOptions{})
		return []error{err}
	}, live, dead)
}

// TestEveryFailingOperationOfARepair does the same to a repair.
func TestEveryFailingOperationOfARepair(t *testing.T) {
	base, live, rotten := rottenStore(t)
	lost := map[Addr]uint64{}
	for _, a := range rotten {
		lost[a] = 11 + uint64(a.Slot())
	}
	faults(t, base, func(t *testing.T, name string, s *Store) (errs []error) {
		for pack := range uint64(2) {
			_, err := s.VerifyPack(context.Background(), pack+1, nil)
			errs = append(errs, err)
			_, err = s.RepairPack(context.Background(), pack+1)
			errs = append(errs, err)
		}
		return errs
	}, live, lost)
}

func faults(t *testing.T, base *crashfs.FS, act func(t *testing.T, name string, s *Store) []error, live, others map[Addr]uint64) {
	step, start := 7, 0
	if raceEnabled {
		step = 19
	}
	n := 0
	for _, effect := range []crashfs.Effect{crashfs.Before, crashfs.After, crashfs.Short, crashfs.DropDirty} {
		for _, errno := range []error{syscall.EIO, syscall.ENOSPC} {
			for _, sticky := range []bool{false, true} {
				start++
				for skip := start % step; ; skip += step {
					fault := &crashfs.Fault{Match: tierOp, Effect: effect, Err: errno, Skip: skip, Sticky: sticky}
					if !failLife(t, base.Kill(), fault, act, live, others) {
						break
					}
					n++
				}
			}
		}
	}
	t.Logf("%d faults", n)
}

// failLife runs act into a fault, then goes on, then cuts the power.
func failLife(t *testing.T, fs *crashfs.FS, fault *crashfs.Fault, act func(*testing.T, string, *Store) []error, live, others map[Addr]uint64) bool {
	t.Helper()
	name := fmt.Sprintf("effect %d, %v, sticky %v, operation %d", fault.Effect, fault.Err, fault.Sticky, fault.Skip)
	ops := trace(fs)
	s := openTest(t, lifeOptions(t, fs))
	fs.Inject(fault)
	for _, err := range act(t, name, s) {
		if err != nil && !errors.Is(err, fault.Err) && !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v", name, err)
		}
	}
	fired := fs.Fired(fault) > 0
	checkLive(t, name, s, live)
	fs.Heal()
	// What is dead is brought again, with hints that lead to it.
	again := maps.Clone(live)
	w := s.NewWriter()
	for a, n := range others {
		out := make([]Addr, 1)
		if _, err := w.Put(block(n), []Addr{a}, out); err != nil {
			t.Fatalf("%s: put: %v", name, err)
		}
		again[out[0]] = n
	}
	ns := count(1, 60)
	addrs := make([]Addr, len(ns))
	if _, err := w.Put(blocks(ns...), nil, addrs); err != nil {
		t.Fatalf("%s: put: %v", name, err)
	}
	for j, a := range addrs {
		again[a] = ns[j]
	}
	mustSync(t, w)
	w.Close()
	if err := s.Close(); err != nil && !fired {
		t.Errorf("%s: close: %v", name, err)
	}
	if err := crashfs.CheckFailedSyncs(ops(), packFile); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	after := fs.Crash(nil, crashfs.LoseAll)
	if fault.Skip%2 == 1 {
		after = fs.Kill()
	}
	s, err := Open(lifeOptions(t, after))
	if err != nil {
		t.Fatalf("%s: open: %v", name, err)
	}
	checkLive(t, name+" after a crash", s, again)
	collect(t, s, slices.Collect(maps.Keys(again)), SweepOptions{})
	checkLive(t, name+" and another collection", s, again)
	closeTest(t, s)
	return fired
}
