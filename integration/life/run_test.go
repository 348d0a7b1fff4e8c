package life

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/crashfs"
)

// run is an engine with the histories of its VMs.
type run struct {
	s    *setup
	c    *clock
	fs   *crashfs.FS
	w    *world
	rng  *rand.Rand
	boot int
	hs   []*history
	log  []string
	n    int // operations so far
}

func newRun(s *setup, seed uint64) (*run, error) {
	r := &run{s: s, c: newClock(), fs: crashfs.New(), rng: rand.New(rand.NewPCG(seed, 0))}
	vms := []string{"alpha", "beta"}
	if s.concurrent {
		vms = append(vms, "gamma")
	}
	for i, vm := range vms {
		r.hs = append(r.hs, newHistory(s, r.c, vm, rand.New(rand.NewPCG(seed, uint64(i+1)))))
	}
	return r, r.open()
}

func (r *run) bootID() string { return fmt.Sprintf("boot-%d", r.boot) }

func (r *run) open() (err error) {
	if r.w, err = open(r.fs, r.s, r.c, r.bootID()); err != nil {
		return fmt.Errorf("the engine does not open: %w", err)
	}
	for _, h := range r.hs {
		h.w = r.w
	}
	return nil
}

// note says in the log what concerns every VM, after what the VMs did.
func (r *run) note(format string, args ...any) {
	for _, h := range r.hs {
		r.log = append(r.log, h.log...)
		h.log = nil
	}
	r.log = append(r.log, fmt.Sprintf(format, args...))
}

// failed tells what led to an error: what was done last, and everything with
// the points and sessions it names.
func (r *run) failed(err error) error {
	r.note("failed")
	recent := max(0, len(r.log)-60)
	about := regexp.MustCompile(`[0-9a-hjkmnp-tv-z]{16}`).FindAllString(err.Error(), -1)
	var told []string
	for i, line := range r.log {
		if i >= recent || slices.ContainsFunc(about, func(id string) bool { return strings.Contains(line, id) }) {
			told = append(told, line)
		}
	}
	return fmt.Errorf("after %d operations: %w\n  %s", r.n, err, strings.Join(told, "\n  "))
}

// steps goes on with one history after the other.
func (r *run) steps(n int) error {
	for range n {
		r.n++
		r.c.advance(20 * time.Millisecond)
		if err := r.step(); err != nil {
			return r.failed(err)
		}
	}
	return nil
}

func (r *run) step() error {
	switch n := r.rng.IntN(100); {
	case n < 4:
		return r.collect()
	case n < 5:
		return r.verify()
	case n < 8:
		return r.restart()
	case n < 11:
		return r.crashDuring()
	case n < 12:
		return r.checkUsage()
	case n < 14:
		r.note("compress")
		return compress(context.Background(), r.w, true)
	}
	h := r.hs[r.rng.IntN(len(r.hs))]
	return pickOp(h.rng, ops).do(h)
}

func (r *run) collect() error {
	r.note("collect garbage")
	if err := r.hs[0].collect(context.Background()); err != nil {
		return err
	}
	return r.settle()
}

// settle expects everything whose time in the trash is over to be gone.
func (r *run) settle() error {
	for _, h := range r.hs {
		if err := h.settle(); err != nil {
			return err
		}
		for _, p := range h.points {
			if h.expired(p) {
				return fmt.Errorf("point %s is still in the trash", p.id)
			}
		}
	}
	return nil
}

func (r *run) verify() error {
	h := r.hs[r.rng.IntN(len(r.hs))]
	ref := ""
	if live := h.points.live(); len(live) > 0 && h.rng.IntN(2) == 0 {
		ref = live[h.rng.IntN(len(live))].id
	}
	r.note("verify %q", ref)
	return verify(context.Background(), r.w, ref, r.boot > 0)
}

// restart ends the engine in some way and opens it again.
func (r *run) restart() error {
	switch n := r.rng.IntN(10); {
	case n < 3:
		return r.cut(r.fs.Kill(), false, "the process dies")
	case n < 6:
		p := r.profile()
		return r.cut(r.fs.Crash(r.rng, p), true, "power cut ("+p.Name+")")
	}
	r.note("stop")
	if err := r.stop(); err != nil {
		return err
	}
	if r.rng.IntN(2) == 0 {
		r.note("both databases are deleted")
		if err := r.deleteDatabases(); err != nil {
			return err
		}
	}
	r.boot++ // a clean stop survives a restart of the host
	return r.reopened(false)
}

func (r *run) stop() error {
	for _, h := range r.hs {
		for len(h.readers) > 0 {
			if err := h.closeImage(); err != nil {
				return err
			}
		}
		for _, s := range h.sessions {
			s.flushed()
		}
		for _, c := range h.clones {
			c.flush()
		}
	}
	return r.w.stop()
}

func (r *run) deleteDatabases() error {
	return errors.Join(r.fs.RemoveAll("/data/catalog"), r.fs.RemoveAll("/data/index"))
}

// profile is a kind of power cut; in half of them our own directories' changes
// survive in any combination.
func (r *run) profile() crashfs.Profile {
	all := crashfs.Profiles()
	p := all[r.rng.IntN(len(all))]
	if r.rng.IntN(2) == 0 {
		p.Paranoid = isOurs
	}
	return p
}

// cut goes on with what a crash left of the file system.
func (r *run) cut(left *crashfs.FS, power bool, what string) error {
	r.note("%s", what)
	r.abandon(left, power)
	return r.reopened(power)
}

// abandon lets go of the engine and of what is known only to it.
func (r *run) abandon(left *crashfs.FS, power bool) {
	old := r.w
	for _, h := range r.hs {
		for _, o := range h.readers {
			o.im.Close()
		}
		h.readers = nil
	}
	old.stop() // on a file system nobody looks at any more
	if r.fs = left; power {
		r.boot++
	}
}

// reopened opens the engine and compares everything with the model.
func (r *run) reopened(power bool) error {
	again, err := r.openAnyhow()
	if err != nil {
		return err
	}
	return r.revive(power || again)
}

func (r *run) revive(power bool) error {
	for _, h := range r.hs {
		if err := h.revive(power); err != nil {
			return err
		}
		if err := h.check(2); err != nil {
			return err
		}
	}
	return nil
}

// openAnyhow opens the engine, once in a while with another crash on the way,
// and reports whether the power failed then.
func (r *run) openAnyhow() (power bool, err error) {
	if r.rng.IntN(5) > 0 {
		return false, r.open()
	}
	at := r.crashAt(r.fs, 80)
	if err := r.open(); err != nil {
		return false, err
	}
	left, power, what := at()
	r.note("while it opens, %s", what)
	r.abandon(left, power)
	again, err := r.openAnyhow()
	return power || again, err
}

// crashAt takes the state of a file system at one of its next operations, or as
// it is when the function it returns is called, if there were not so many.
func (r *run) crashAt(fs *crashfs.FS, within uint64) func() (left *crashfs.FS, power bool, what string) {
	var left *crashfs.FS
	over := false
	p, rng := r.profile(), rand.New(rand.NewPCG(r.rng.Uint64(), 7))
	power, target := r.rng.IntN(2) == 0, fs.Ops()+1+r.rng.Uint64N(within)
	what := "the process dies"
	if power {
		what = "power cut (" + p.Name + ")"
	}
	take := func(at *crashfs.Instant) {
		if power {
			left = at.Crash(rng, p)
		} else {
			left = at.KillDuring(rng)
		}
	}
	fs.Observe(func(at *crashfs.Instant) {
		if left == nil && !over && at.Op.Seq >= target {
			take(at)
		}
	})
	return func() (*crashfs.FS, bool, string) {
		fs.At(func(at *crashfs.Instant) {
			over = true
			if left == nil {
				take(at)
			}
		})
		return left, power, what
	}
}

// crashDuring lets the process die or the power fail in the middle of an
// operation: then it was done, or it was not.
func (r *run) crashDuring() error {
	h := r.hs[r.rng.IntN(len(r.hs))]
	o := r.crashable(h)
	r.note("crash during: %s", o.name)
	before, gone, sessions := h.points, slices.Clone(h.gone), h.cloneSessions()
	at := r.crashAt(r.fs, []uint64{5, 30, 100}[r.rng.IntN(3)])
	if err := o.do(h); err != nil {
		return err
	}
	left, power, what := at()
	after := h.points
	h.points, h.gone = before, gone
	r.note("%s in the middle", what)
	r.abandon(left, power)
	again, err := r.openAnyhow()
	if err != nil {
		return err
	}
	h.sessions = sessions
	if err := h.decide(before, after, o.partly); err != nil {
		return fmt.Errorf("crash during %s: %w", o.name, err)
	}
	return r.revive(power || again)
}

// crashable is an operation that a crash may come into.
func (r *run) crashable(h *history) *op {
	list := []op{
		{name: "collect", weight: 12, partly: true, do: func(h *history) error { return h.collect(context.Background()) }},
		{name: "compress", weight: 6, partly: true, do: func(h *history) error { return compress(context.Background(), h.w, true) }},
		{name: "verify", weight: 1, do: func(h *history) error { return verify(context.Background(), r.w, "", r.boot > 0) }},
	}
	for _, o := range ops {
		if o.crash {
			list = append(list, o)
		}
	}
	return pickOp(h.rng, list)
}

// finish checks everything, and what should hold at the end of a history.
func (r *run) finish() error {
	for _, f := range []func() error{r.checkAll, r.undeleteAll, r.reopenTwice, r.rebuild, r.checkUsage, r.checkAll, r.deleteAll} {
		if err := f(); err != nil {
			return r.failed(err)
		}
	}
	return r.w.stop()
}

func (r *run) checkAll() error {
	for _, h := range r.hs {
		if err := h.checkAll(); err != nil {
			return err
		}
	}
	return nil
}

// undeleteAll brings back what is in the trash, but for one point.
func (r *run) undeleteAll() error {
	for _, h := range r.hs {
		for i, p := range h.points {
			if !p.trashed || i == len(h.points)/2 {
				continue
			}
			if _, err := r.w.maint.Undelete(p.id); err != nil {
				return fmt.Errorf("undelete: %w", err)
			}
			h.points = h.points.with(p.id, func(p *point) { p.trashed, p.purge = false, time.Time{} })
			if err := h.checkPoint(h.points.find(p.id)); err != nil {
				return fmt.Errorf("undeleted: %w", err)
			}
		}
	}
	return nil
}

// reopenTwice checks that opening an engine that was closed changes nothing.
func (r *run) reopenTwice() error {
	var before map[string]string
	for i := range 2 {
		if err := errors.Join(r.stop(), r.open()); err != nil {
			return err
		}
		if err := r.stop(); err != nil {
			return err
		}
		now := map[string]string{}
		if err := fingerprint(r.fs, "/data", now); err != nil {
			return err
		}
		if i > 0 && len(difference(before, now)) > 0 {
			return fmt.Errorf("a second opening changed files:\n%s", difference(before, now))
		}
		before = now
		if err := r.open(); err != nil {
			return err
		}
	}
	return nil
}

// rebuild makes both databases anew: the catalog says what it said.
func (r *run) rebuild() error {
	var old, fresh bytes.Buffer
	if err := errors.Join(r.w.cat.Dump(&old), r.stop(), r.deleteDatabases(), r.open(), r.w.cat.Dump(&fresh)); err != nil {
		return fmt.Errorf("rebuild: %w", err)
	}
	if !bytes.Equal(old.Bytes(), fresh.Bytes()) {
		return fmt.Errorf("the rebuilt catalog says\n%swhere the old one said\n%s", fresh.Bytes(), old.Bytes())
	}
	return nil
}

// deleteAll deletes every point: nothing is left of them, in the end.
func (r *run) deleteAll() error {
	for _, h := range r.hs {
		for len(h.sessions) > 0 {
			if err := h.abort(); err != nil {
				return err
			}
		}
		for _, c := range h.clones {
			if err := r.w.vols.DiscardClone(c.id); err != nil {
				return err
			}
		}
		h.clones = nil
		for i := len(h.points) - 1; i >= 0; i-- {
			p := h.points[i]
			if h.c.now().Before(p.locked) {
				h.c.advance(p.locked.Sub(h.c.now()))
			}
			if p.hold != "" {
				if _, err := r.w.maint.Release(p.id); err != nil {
					return err
				}
			}
			if err := r.w.vols.Remove(p.id); err != nil {
				return fmt.Errorf("remove: %w", err)
			}
		}
		h.points = nil
	}
	if err := collect(context.Background(), r.w, 0.01, true); err != nil {
		return err
	}
	u, err := r.w.cat.StoreUsage()
	if err != nil || u.Stored != 0 || u.Logical != 0 {
		return fmt.Errorf("without a point the store uses %+v: %v", u, err)
	}
	return r.checkEmpty()
}

// checkEmpty expects nothing in sealed packs.
func (r *run) checkEmpty() error {
	var sealed, open int
	var last dedup.PackInfo
	err := r.w.store.Packs(func(p dedup.PackInfo) bool {
		if p.Open {
			open++
		} else if p.Slots > 0 {
			sealed++
			last = p
		}
		return true
	})
	if err != nil || sealed > 0 || open > 8 {
		return fmt.Errorf("without a point %d sealed packs (such as %+v) and %d open ones are left: %v", sealed, last, open, err)
	}
	return nil
}

// together lets all VMs and the collection of garbage go on at the same time,
// for n operations of each VM.
func (r *run) together(n int) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	errs := make([]error, len(r.hs)+1)
	var wg, rest sync.WaitGroup
	for i, h := range r.hs {
		wg.Go(func() {
			for range n {
				if errs[i] = r.doTogether(h); errs[i] != nil {
					return
				}
			}
		})
	}
	rest.Go(func() { errs[len(r.hs)] = r.keepCollecting(ctx) })
	wg.Wait()
	cancel()
	rest.Wait()
	if r.n += n * len(r.hs); errors.Join(errs...) != nil {
		return r.failed(errors.Join(errs...))
	}
	return nil
}

// doTogether does something to one VM. The clock stands still meanwhile.
func (r *run) doTogether(h *history) error {
	o := pickOp(h.rng, ops)
	if o.alone {
		r.c.still.Lock()
		defer r.c.still.Unlock()
	} else {
		r.c.still.RLock()
		defer r.c.still.RUnlock()
	}
	return o.do(h)
}

// keepCollecting collects garbage, compresses and verifies until ctx ends.
func (r *run) keepCollecting(ctx context.Context) error {
	ratios := []float64{0.01, 0.3, 1}
	for i := 0; ctx.Err() == nil; i++ {
		err := collect(ctx, r.w, ratios[i%len(ratios)], false)
		if err == nil && i%2 == 1 {
			err = compress(ctx, r.w, false)
		}
		if err == nil && i%4 == 3 {
			err = verify(ctx, r.w, "", r.boot > 0)
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// concurrently goes on with all VMs at once, and crashes in between.
func (r *run) concurrently(n int) error {
	for done := 0; done < n; {
		part := 20 + r.rng.IntN(60)
		if err := r.together(part); err != nil {
			return err
		}
		done += part * len(r.hs)
		if err := errors.Join(r.collect(), r.restart(), r.checkAll()); err != nil {
			return r.failed(err)
		}
	}
	return nil
}

// live runs a history to its end.
func live(t *testing.T, s *setup, seed uint64, n int) {
	r, err := newRun(s, seed)
	if err == nil && s.concurrent {
		err = r.concurrently(n)
	} else if err == nil {
		err = r.steps(n)
	}
	if err == nil {
		err = r.finish()
	}
	if err != nil {
		t.Errorf("%s, seed %d: %v", s.name, seed, err)
	}
}
