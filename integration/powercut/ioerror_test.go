package powercut

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
	"github.com/strongroom-backup/strongroom/volume"
)

// TestIOErrors lets one operation of a run fail, each k-th in turn and each in
// the ways it can, and works on: what was acknowledged must be there after a
// restart and after a power cut, and no file may be used on after its sync
// failed.
func TestIOErrors(t *testing.T) {
	seed := seedOf(t)
	total := newFaulty(seed, nil).calm(t)
	runs := min(total, uint64(steps(160)*soak(t)))
	var died, silent int
	for i := range runs {
		k := i * total / runs
		f := newFaulty(seed, faultAt(k+1, i))
		if err := f.run(); err != nil {
			t.Errorf("seed %d, operation %d of %d fails (%v, effect %d): %v", seed, k+1, total, f.hit, f.fault.Effect, err)
		}
		if f.fatal {
			died++
		}
		if f.errs == 0 && !f.fatal {
			silent++
		}
	}
	t.Logf("%d of %d operations failed in turn; %d times the process had to end, %d times nobody heard of it", runs, total, died, silent)
}

// faultAt makes operation k fail, in a way that goes by turns.
func faultAt(k, turn uint64) *crashfs.Fault {
	f := &crashfs.Fault{Err: syscall.EIO}
	switch turn % 5 {
	case 1:
		f.Effect = crashfs.After
	case 2:
		f.Effect = crashfs.DropDirty
	case 3:
		f.Effect, f.Err = crashfs.Short, syscall.ENOSPC
	case 4: // the file system gives up, and every later operation fails too
		f.Sticky, f.Err = true, syscall.EROFS
	}
	f.Match = func(op crashfs.Op) bool { return (op.Seq == k || f.Sticky && op.Seq > k) && survivable(op) }
	return f
}

// survivable leaves out what Pebble answers with a panic on a goroutine of its
// own, which ends the process as it should and the test with it: a directory
// sync of a database that fails.
func survivable(op crashfs.Op) bool { return op.Kind != crashfs.SyncDir || ours(op.Path) }

// faulty is a run of which one operation fails.
type faulty struct {
	seed  uint64
	fault *crashfs.Fault
	fs    *crashfs.FS
	m     *model
	trace *crashfs.Trace
	once  sync.Once
	last  chan struct{} // closed when Pebble says its last words

	hit   crashfs.Op // the operation that failed
	errs  int        // calls that failed
	fatal bool
}

func newFaulty(seed uint64, fault *crashfs.Fault) *faulty {
	f := &faulty{seed: seed, fault: fault, fs: crashfs.New(), m: newModel(), last: make(chan struct{})}
	f.trace = crashfs.Record(f.fs)
	if fault != nil {
		f.fs.Inject(fault)
	}
	return f
}

// calm runs without a fault and counts operations.
func (f *faulty) calm(t *testing.T) uint64 {
	if err := f.run(); err != nil {
		t.Fatal(err)
	}
	if f.errs > 0 {
		t.Fatalf("%d calls failed without a fault", f.errs)
	}
	return f.fs.Ops()
}

// run works until the end or Pebble's last words, then looks at what a restart
// and what a power cut would find.
func (f *faulty) run() error {
	done := make(chan error, 1)
	go func() { done <- f.work() }()
	var wrong error
	select {
	case wrong = <-done:
	case <-f.last:
		f.fatal = true
	case <-time.After(time.Minute):
		wrong = errors.New("the engine hangs")
	}
	kill := &cut{boot: 1, seed: f.seed, what: "restart after it"}
	power := &cut{boot: 1, seed: f.seed + 1, power: true, mayDie: true, what: "power cut after it"}
	f.fs.At(func(at *crashfs.Instant) {
		kill.fs, kill.m = at.Kill(), f.m.snapshot()
		power.fs, power.m = at.Crash(nil, crashfs.LoseAll), f.m.snapshot()
	})
	f.fs.Heal()  // what was left running finds an end
	if f.fatal { // or waits for ever, but not with all that
		defer f.fs.Discard()
	}
	if i := slices.IndexFunc(f.trace.Ops(), func(op crashfs.Op) bool { return op.Err != nil }); i >= 0 {
		f.hit = f.trace.Ops()[i]
	}
	_, err := kill.survive(0)
	_, err2 := power.survive(0)
	return errors.Join(wrong, err, err2, crashfs.CheckFailedSyncs(f.fileOps(), nil))
}

// fileOps leaves out directories: there is no other one to use instead, and a
// file system whose directory sync failed takes no more changes.
func (f *faulty) fileOps() (ops []crashfs.Op) {
	for _, op := range f.trace.Ops() {
		if op.Kind != crashfs.SyncDir {
			ops = append(ops, op)
		}
	}
	return ops
}

// work does the same steps in every run, until some after the first error.
func (f *faulty) work() error {
	e, err := start(f.fs, bootID(1), lastWords{fatal: func(string) { f.once.Do(func() { close(f.last) }) }})
	if err != nil {
		f.errs++
		return nil
	}
	var drivers []*driver
	for i, vm := range vms[:2] {
		drivers = append(drivers, &driver{e: e, m: f.m, rng: rand.New(rand.NewPCG(f.seed, uint64(i))), vm: vm})
	}
	more := 60
	for i := 0; i < more; i++ {
		if err := f.step(drivers[i%2]); err != nil {
			return err
		}
		if f.errs > 0 {
			more = min(more, i+12)
		}
	}
	if f.seed%2 == 0 || f.errs > 0 { // else the process is killed
		if err := e.stop(); err != nil {
			f.errs++
			f.m.doomAll()
		}
	}
	return nil
}

// step does one thing; when it fails, it does what a client would.
func (f *faulty) step(d *driver) error {
	err := d.step()
	if err == nil {
		return nil
	}
	f.errs++
	return d.giveWay(f.fault != nil && f.fault.Sticky)
}

// learn finds out whether a call that failed got through all the same. If it
// did not, it may still: what it wrote counts once the log is opened again,
// unless something else was written meanwhile.
func (d *driver) learn() error {
	actual, err := pointsOf(d.e, d.vm)
	if err != nil {
		return err
	}
	for _, next := range d.m.next[d.vm] {
		if fits(actual, next) == nil && fits(actual, d.m.points[d.vm]) != nil {
			d.m.set(func() { d.m.settle(d.vm, filled(actual, next)) })
			break
		}
	}
	return nil
}

// giveWay learns what a failed call left: a point that is there all the same
// counts, sessions of undecided commits and aborts are left alone, some dead
// ones aborted. On a disk that takes nothing any more, a session cannot note its
// death; a restart finds it as it was.
func (d *driver) giveWay(deadDisk bool) error {
	if err := d.learn(); err != nil {
		return nil // the catalog may be what failed
	}
	for _, st := range d.e.Sessions() {
		s := d.m.byKey(st.Labels["key"])
		if s == nil || s.vm != d.vm {
			continue
		}
		switch {
		case s.phase == starting:
			return fmt.Errorf("the start of session %s failed, but the session is there, %s", st.Session, st.State)
		case st.State == volume.Open && s.phase == committing:
			d.m.set(func() { s.phase = open })
		case st.State == volume.Dead && s.phase == open && !deadDisk:
			d.m.set(func() { s.phase = dead })
			if d.rng.IntN(2) == 0 {
				_ = d.abort(s) // the disk may still be what failed
			}
		}
	}
	return nil
}
