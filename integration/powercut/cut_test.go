package powercut

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
)

// cut is a file system after a power cut or a kill, and what it must hold.
type cut struct {
	fs     *crashfs.FS
	m      *model
	boot   int    // of the engine that was cut off
	power  bool   // else only the process died
	mayDie bool   // a power cut happened, now or before, that sessions may have died of
	twice  bool   // it must be opened twice
	seed   uint64 // of everything random done with it
	what   string
}

// cutAt makes one at an instant of a run: three in ten are kills, the others
// power cuts of all kinds, half of them free in what they do with our names.
func cutAt(at *crashfs.Instant, m *model, boot int, mayDie bool, seed uint64) *cut {
	rng := rand.New(rand.NewPCG(seed, 1))
	c := &cut{m: m.snapshot(), boot: boot, mayDie: mayDie, seed: seed}
	if rng.IntN(10) < 3 {
		c.what = fmt.Sprintf("kill at operation %d (%v)", at.Op.Seq, at.Op)
		c.fs = at.KillDuring(rng)
		return c
	}
	p := crashfs.Random
	if rng.IntN(2) == 0 {
		p = crashfs.Profiles()[rng.IntN(5)]
	}
	if rng.IntN(2) == 0 {
		p.Paranoid = ours
	}
	c.power, c.mayDie = true, true
	c.what = fmt.Sprintf("power cut (%s) at operation %d (%v)", p.Name, at.Op.Seq, at.Op)
	c.fs = at.Crash(rng, p)
	return c
}

// survive opens an engine on the cut and checks everything. depth is how many
// more cuts may follow. It returns the number of states looked at.
func (c *cut) survive(depth int) (states int, err error) {
	pristine := c.fs.Kill()
	n, err := c.check(depth)
	if err != nil {
		save(pristine, c.seed)
		err = fmt.Errorf("%s: %w", c.what, err)
	}
	return n + 1, err
}

func (c *cut) check(depth int) (states int, err error) {
	rng := rand.New(rand.NewPCG(c.seed, 2))
	boot := c.boot
	if c.power {
		boot++
	}
	inner := c.cutDuringRecovery(rng, depth, boot)
	e, err := start(c.fs, bootID(boot), mustLive)
	if err != nil {
		return 0, fmt.Errorf("the engine does not open: %w", err)
	}
	next := []*cut{inner()}
	if err := inspect(e, c.m, c.mayDie); err != nil {
		return 0, errors.Join(err, e.stop())
	}
	if depth > 0 && rng.IntN(4) == 0 { // what was seen must not be taken back
		next = append(next, c.loseAll("once it was looked at", rng))
	}
	if rng.IntN(4) == 0 || c.twice {
		if e, err = c.reopenTwice(e, boot); err != nil {
			return 0, err
		}
	}
	if rng.IntN(3) == 0 {
		if err = goOn(e, c.m, rng); err == nil && depth > 0 {
			next = append(next, c.loseAll("then going on", rng))
		}
	}
	if err := errors.Join(err, e.stop()); err != nil {
		return 0, err
	}
	for _, c := range next {
		if c == nil {
			continue
		}
		n, err := c.survive(depth - 1)
		if states += n; err != nil {
			return states, err
		}
	}
	return states, nil
}

// loseAll is a power cut of the running engine.
func (c *cut) loseAll(when string, rng *rand.Rand) *cut {
	after := &cut{boot: c.boot + 1, power: true, mayDie: true, seed: rng.Uint64(), what: when + ", a power cut (lose-all)"}
	c.fs.At(func(at *crashfs.Instant) {
		after.fs, after.m = at.Crash(rng, crashfs.LoseAll), c.m.snapshot()
	})
	return after
}

func bootID(n int) string { return fmt.Sprintf("boot-%d", n) }

// cutDuringRecovery arranges for a cut at some operation of the recovery to
// come; the function it returns gives it.
func (c *cut) cutDuringRecovery(rng *rand.Rand, depth, boot int) func() *cut {
	if depth == 0 || rng.IntN(4) > 0 {
		return func() *cut { return nil }
	}
	var made *cut
	over := false
	m, after, seed := c.m.snapshot(), c.fs.Ops()+1+rng.Uint64N(60), rng.Uint64()
	c.fs.Observe(func(at *crashfs.Instant) {
		if at.Op.Seq == after && !over {
			made = cutAt(at, m, boot, c.mayDie, seed)
			made.what = "during the recovery: " + made.what
		}
	})
	return func() *cut {
		c.fs.At(func(*crashfs.Instant) { over = true })
		return made
	}
}

// reopenTwice checks that opening an engine that was closed changes nothing.
func (c *cut) reopenTwice(e *engine, boot int) (*engine, error) {
	var before map[string]string
	for i := range 2 {
		var b strings.Builder
		if err := e.cat.Dump(&b); err != nil {
			return e, fmt.Errorf("dump the catalog: %w", err)
		}
		dump := b.String()
		if err := e.stop(); err != nil {
			return e, fmt.Errorf("close after recovery: %w", err)
		}
		now := map[string]string{"the catalog": dump}
		if err := fingerprint(c.fs, "/data", now); err != nil {
			return e, err
		}
		if i > 0 && !maps.Equal(before, now) {
			return e, fmt.Errorf("a second opening changed files:\n%s", difference(before, now))
		}
		before = now
		var err error
		if e, err = start(c.fs, bootID(boot), mustLive); err != nil {
			return e, fmt.Errorf("the engine does not open again: %w", err)
		}
	}
	if err := inspect(e, c.m, false); err != nil {
		return e, errors.Join(fmt.Errorf("after opening again: %w", err), e.stop())
	}
	return e, nil
}

// fingerprint lists every file outside the databases with a checksum.
func fingerprint(fs *crashfs.FS, dir string, out map[string]string) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		name = path.Join(dir, name)
		if inCatalog(name) || inIndex(name) {
			continue
		}
		info, err := fs.Stat(name)
		if err != nil {
			return err
		}
		if info.IsDir() {
			if err := fingerprint(fs, name, out); err != nil {
				return err
			}
			continue
		}
		sum, err := checksum(fs, name)
		if err != nil {
			return err
		}
		out[name] = fmt.Sprintf("%d bytes, %08x", info.Size(), sum)
	}
	return nil
}

func checksum(fs vfs.FS, name string) (uint32, error) {
	f, err := fs.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	h := crc32.NewIEEE()
	_, err = io.Copy(h, f)
	return h.Sum32(), err
}

func difference(a, b map[string]string) (s string) {
	all := maps.Clone(a)
	maps.Copy(all, b)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if a[name] != b[name] {
			s += fmt.Sprintf("\t%s: %q, then %q\n", name, a[name], b[name])
		}
	}
	return s
}

// goOn works with what came back: sessions are written to and committed, dead
// ones aborted, a new backup made of each VM.
func goOn(e *engine, m *model, rng *rand.Rand) error {
	for _, s := range slices.Clone(m.sessions) {
		d := &driver{e: e, m: m, rng: rng, vm: s.vm}
		var err error
		switch s.phase {
		case dead:
			err = d.abort(s)
		case open:
			err = errors.Join(d.resend(s), d.writeBlocks(s, d.anyDisk(s)), d.writePart(s, d.anyDisk(s)), d.read(s), d.commit(s))
		}
		if err != nil {
			return fmt.Errorf("going on with session %s (%s): %w", s.id, s.key, err)
		}
	}
	for _, vm := range vms {
		d := &driver{e: e, m: m, rng: rng, vm: vm, name: fmt.Sprintf("on%d", now().UnixMilli())}
		if err := d.fresh(); err != nil {
			return fmt.Errorf("a new backup of %s: %w", vm, err)
		}
	}
	if err := inspect(e, m, false); err != nil {
		return fmt.Errorf("after going on: %w", err)
	}
	return nil
}

// resend writes again what had no answer, as a client that reconnects does.
func (d *driver) resend(s *session) error {
	for _, k := range s.disks {
		for _, w := range slices.Clone(k.want.maybe) {
			if w.data == nil {
				w.data = make([]byte, min(w.n, 100000))
			}
			if err := d.write(s, k, w.data, w.off); err != nil {
				return err
			}
		}
	}
	return nil
}

// fresh makes one more backup of the VM from beginning to end.
func (d *driver) fresh() error {
	if err := d.start(); err != nil {
		return err
	}
	s := d.openSession()
	return errors.Join(d.writeBlocks(s, d.anyDisk(s)), d.writeBlocks(s, d.anyDisk(s)), d.flush(s), d.read(s), d.commit(s))
}
