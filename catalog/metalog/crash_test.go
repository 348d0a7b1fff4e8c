package metalog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
)

// history writes and applies transactions on fs, a new session now and then,
// and reports what was acknowledged. It ends with the first error.
type history struct {
	acked   []txn
	applied uint64 // what the owner's database is known to hold
	next    txn    // being written
}

func (h *history) run(fs *crashfs.FS, rng *rand.Rand, sessions int) error {
	o := testOptions(fs)
	o.RotateBytes = 4000
	for range sessions {
		l, err := Open(o, h.applied)
		if err != nil {
			return err
		}
		if _, err := replayed(l); err != nil {
			return err
		}
		h.applied = l.next - 1
		for range 1 + rng.IntN(4) {
			h.next = randomTxn(rng)
			end, err := l.write(h.next)
			if err != nil {
				l.Close()
				return err
			}
			h.acked, h.next = append(h.acked, h.next), nil
			if rng.IntN(4) > 0 {
				h.applied = end
			}
		}
		l.Close()
	}
	return nil
}

// ends returns the sequence number after the first n transactions.
func ends(txns []txn) (seq uint64) {
	for _, x := range txns {
		seq += uint64(len(x)) + 1
	}
	return seq
}

// checkState opens a log found after a crash with a database that holds the
// first known transactions, and returns all transactions, or fails unless they
// are acked and perhaps one of maybe.
func checkState(t *testing.T, fs *crashfs.FS, what string, acked []txn, known int, maybe ...txn) []txn {
	t.Helper()
	l, err := Open(testOptions(fs), ends(acked[:known]))
	if err != nil {
		t.Fatalf("%s: open: %v", what, err)
	}
	defer l.Close()
	got, err := replayed(l)
	if err != nil {
		t.Fatalf("%s: replay: %v", what, err)
	}
	all := append(append([]txn(nil), acked[:known]...), got...)
	ok := sameTxns(all, acked)
	for _, x := range maybe {
		ok = ok || x != nil && sameTxns(all, append(acked[:len(acked):len(acked)], x))
	}
	if !ok {
		t.Fatalf("%s: %d transactions\n%v\nwant %d\n%v\nor one more of\n%v", what, len(all), all, len(acked), acked, maybe)
	}
	if err := l.settledForGood(fs); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return all
}

// settledForGood wants everything Open showed to survive a power cut at once.
func (l *Log) settledForGood(fs *crashfs.FS) error {
	cut := fs.Crash(rand.New(rand.NewPCG(1, 1)), crashfs.LoseAll)
	again, err := Open(testOptions(cut), 0)
	if err != nil {
		return fmt.Errorf("after a power cut behind Open: %w", err)
	}
	defer again.Close()
	if again.next != l.next {
		return fmt.Errorf("a power cut behind Open goes back from record %d to %d", l.next, again.next)
	}
	return nil
}

type crashPoint struct {
	op    crashfs.Op
	fs    *crashfs.FS
	kind  string
	acked int
	next  txn
}

// TestCrashAtEveryOperation cuts the power, or kills the process, after every
// operation of a history, opens what is left with databases of every age, cuts
// the power again and goes on.
func TestCrashAtEveryOperation(t *testing.T) {
	states := 0
	for seed := range uint64(4) {
		fs := crashfs.New()
		rng := rand.New(rand.NewPCG(seed, 2))
		dice := rand.New(rand.NewPCG(seed, 3))
		var h history
		var points []crashPoint
		fs.Observe(func(at *crashfs.Instant) {
			at0 := crashPoint{op: at.Op, acked: len(h.acked), next: h.next}
			for _, p := range crashfs.Profiles() {
				p.Paranoid = func(string) bool { return true }
				c := at0
				c.kind, c.fs = p.Name, at.Crash(dice, p)
				points = append(points, c)
			}
			at0.kind, at0.fs = "kill", at.Kill()
			points = append(points, at0)
		})
		if err := h.run(fs, rng, 5); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for _, c := range points {
			what := fmt.Sprintf("seed %d, %s after %v", seed, c.kind, c.op)
			known := dice.IntN(c.acked + 1)
			all := checkState(t, c.fs, what, h.acked[:c.acked:c.acked], known, c.next)
			again := history{acked: all, applied: ends(all)}
			if err := again.run(c.fs, rand.New(rand.NewPCG(seed, 4)), 2); err != nil {
				t.Fatalf("%s: going on: %v", what, err)
			}
			cut := c.fs.Crash(dice, crashfs.LoseAll)
			checkState(t, cut, what+", then lose-all", again.acked, 0)
			states++
		}
	}
	t.Logf("%d states", states)
}

// TestFaults lets every operation of a history fail in every way, tries again
// in the same session, then opens anew, as a new process would and as after a
// power cut.
func TestFaults(t *testing.T) {
	runs := 0
	for _, effect := range []crashfs.Effect{crashfs.Before, crashfs.After, crashfs.Short, crashfs.DropDirty} {
		for _, sticky := range []bool{false, true} {
			for k := 0; ; k++ {
				what := fmt.Sprintf("operation %d, effect %d, sticky %v", k, effect, sticky)
				if !faultyRun(t, what, &crashfs.Fault{Skip: k, Effect: effect, Sticky: sticky}) {
					break
				}
				runs++
			}
		}
	}
	t.Logf("%d runs", runs)
}

func faultyRun(t *testing.T, what string, fault *crashfs.Fault) (fired bool) {
	fs := crashfs.New()
	trace := crashfs.Record(fs)
	rng := rand.New(rand.NewPCG(9, 9))
	o := testOptions(fs)
	o.RotateBytes = 3000
	acked := []txn{randomTxn(rng), randomTxn(rng)}
	var unsure []txn
	l := mustOpen(t, o, 0)
	mustWrite(t, l, acked...)
	l.Close()
	fs.Inject(fault)
	l, err := Open(o, 0) // writes the last transaction again
	for i := 0; err == nil && i < 8 && l.Err() == nil; i++ {
		x := randomTxn(rng)
		if _, werr := l.write(x); werr == nil {
			acked, unsure = append(acked, x), nil
		} else {
			unsure = append(unsure, x)
			var failed *SyncError
			if errors.As(werr, &failed) != (l.Err() != nil) {
				t.Fatalf("%s: error %v, but Err is %v", what, werr, l.Err())
			}
		}
	}
	if fs.Fired(fault) == 0 {
		return false
	}
	if err := crashfs.CheckFailedSyncs(trace.Ops(), func(p string) bool { return p != "/" }); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	killed := fs.Kill()
	checkState(t, killed, what+", kill", acked, 0, unsure...)
	for _, p := range crashfs.Profiles() {
		checkState(t, fs.Crash(rng, p), what+", "+p.Name, acked, rng.IntN(len(acked)+1), unsure...)
	}
	if l != nil {
		l.Close()
	}
	return true
}
