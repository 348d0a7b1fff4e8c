package powercut

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/crashfs"
)

// act is one operation that is cut, and fails, at every one of its steps.
type act struct {
	name string
	// prepare runs before, do is what is cut. Both leave the model right.
	prepare, do func(*driver) error
	// closed acts begin with the engine not open, and open it.
	closed bool
}

// acts are the operations that change what is stored.
var acts = []act{
	{name: "commit", prepare: (*driver).fillSession, do: func(d *driver) error { return d.commit(d.openSession()) }},
	{name: "commit files", prepare: (*driver).fillFile, do: func(d *driver) error { return d.commit(d.openSession()) }},
	{name: "abort", prepare: (*driver).fillSession, do: func(d *driver) error { return d.abort(d.openSession()) }},
	{name: "trash", do: func(d *driver) error { return d.trash(d.pointAt(1), time.Hour) }},
	{name: "delete", do: func(d *driver) error { return d.remove(d.pointAt(1)) }},
	{name: "delete from trash", prepare: func(d *driver) error { return d.trash(d.pointAt(1), time.Hour) },
		do: func(d *driver) error { return d.remove(d.pointAt(1)) }},
	{name: "undelete", prepare: func(d *driver) error { return d.trash(d.pointAt(1), time.Hour) }, do: (*driver).undelete},
	{name: "hold", do: func(d *driver) error { return d.hold(d.pointAt(1)) }},
	{name: "release", prepare: func(d *driver) error { return d.hold(d.pointAt(1)) },
		do: func(d *driver) error { return d.release(d.pointAt(1)) }},
	{name: "lock", do: func(d *driver) error { return d.lock(d.pointAt(1), time.Hour) }},
	{name: "policy", do: func(d *driver) error { return d.setPolicy(7) }},
	{name: "merge: commit", do: func(d *driver) error { return d.mergeAll(true) }},
	{name: "merge: pull", do: func(d *driver) error { return d.mergeAll(false) }},
	{name: "forget", prepare: func(d *driver) error { return d.remove(d.pointAt(1)) }, do: (*driver).forget},
	{name: "purge and collect", prepare: func(d *driver) error { return d.trash(d.pointAt(1), time.Millisecond) }, do: (*driver).collect},
	{name: "compact", prepare: (*driver).removeMost, do: (*driver).collect},
	{name: "free whole packs", prepare: (*driver).removeAll, do: (*driver).collect},
	{name: "collect twice", prepare: (*driver).collectOnce, do: (*driver).collect},
	{name: "compress", prepare: (*driver).storeLater, do: (*driver).compress},
	{name: "repair", prepare: (*driver).damage, do: (*driver).repair},
	{name: "rebuild", closed: true, prepare: (*driver).loseDatabases},
	{name: "rebuild the catalog", closed: true, prepare: func(d *driver) error { return d.e.fs.RemoveAll("/data/catalog") }},
	{name: "rebuild the index", closed: true, prepare: func(d *driver) error { return d.e.fs.RemoveAll("/data/index") }},
}

// pointAt is a point of the driver's VM.
func (d *driver) pointAt(i int) *point { return d.m.points[d.vm][i] }

func (d *driver) fillSession() error {
	if s := d.openSession(); s == nil {
		if err := d.start(); err != nil {
			return err
		}
	}
	s := d.openSession()
	return errors.Join(d.writeBlocks(s, d.anyDisk(s)), d.writePart(s, d.anyDisk(s)), d.zero(s, d.anyDisk(s)), d.writeBlocks(s, d.anyDisk(s)))
}

// mergeAll merges the VM's longest line of images of its small disk.
func (d *driver) mergeAll(commit bool) error {
	line, err := d.line("vdb")
	if err != nil {
		return err
	}
	if len(line) < 3 {
		return fmt.Errorf("the line of VM %s has %d images", d.vm, len(line))
	}
	return d.merge("vdb", line, commit)
}

func (d *driver) forget() error {
	ids, err := d.e.cat.Removed()
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		return errors.New("nothing to forget")
	}
	return d.e.cat.Forget(ids...)
}

// removeMost leaves every VM one point, so that packs are dead in part.
func (d *driver) removeMost() error {
	for _, vm := range vms {
		for _, p := range d.m.points[vm][1:] {
			if len(d.e.InUse(p.id)) == 0 {
				if err := d.remove(p); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// collectOnce leaves packs of a second generation.
func (d *driver) collectOnce() error {
	if err := d.removeMost(); err != nil {
		return err
	}
	if err := d.collect(); err != nil {
		return err
	}
	for _, p := range d.m.all() {
		if len(d.e.InUse(p.id)) == 0 && d.rng.IntN(2) == 0 {
			if err := d.remove(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// damage spoils frames of sealed packs, durably, until a point needs one of
// them, has the damage found and what was in it backed up again.
func (d *driver) damage() error {
	names, err := d.sealedPacks()
	if err != nil {
		return err
	}
	for needed := false; !needed; names = names[1:] {
		if len(names) == 0 {
			return errors.New("no point needs what was damaged")
		}
		if needed, err = d.spoil(names[0]); err != nil {
			return err
		}
	}
	for _, vm := range vms {
		o := &driver{e: d.e, m: d.m, rng: d.rng, vm: vm, name: "heal"}
		for _, p := range d.m.points[vm] {
			if err := o.again(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// spoil damages a pack, has it verified and tells whether a point needs what is
// damaged.
func (d *driver) spoil(name string) (needed bool, err error) {
	f, err := d.e.fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return false, err
	}
	for off := int64(2000); off < 200<<10; off += 40 << 10 {
		_, werr := f.WriteAt(slices.Repeat([]byte{0xa5}, 4096), off)
		err = errors.Join(err, werr)
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return false, err
	}
	var pack uint64
	if _, err := fmt.Sscanf(path.Base(name), "%x.", &pack); err != nil {
		return false, err
	}
	r, err := d.e.store.VerifyPack(context.Background(), pack, nil)
	if err != nil {
		return false, err
	}
	if len(r.Damaged) == 0 {
		return false, fmt.Errorf("the damage of %s is not found", name)
	}
	hashes := make([]dedup.Hash, len(r.Damaged))
	if err := d.e.store.Hashes(r.Damaged, hashes); err != nil {
		return false, err
	}
	return slices.ContainsFunc(hashes, d.inPoint), nil
}

// inPoint reports whether a point has a block of that hash.
func (d *driver) inPoint(h dedup.Hash) bool {
	for _, vm := range vms {
		for _, p := range d.m.points[vm] {
			for _, c := range p.images {
				for _, b := range c.blocks {
					if d.e.store.BlockHash(b[:]) == h {
						return true
					}
				}
			}
		}
	}
	return false
}

// sealedPacks are the pack files of the tier that are long enough.
func (d *driver) sealedPacks() (sealed []string, err error) {
	names, err := d.e.fs.List("/data/tier0/packs/0000000")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	for _, name := range names {
		name = "/data/tier0/packs/0000000/" + name
		f, err := d.e.fs.Open(name)
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		if len(b) > 200<<10 && strings.HasSuffix(string(b), "SRPKEND\x01") {
			sealed = append(sealed, name)
		}
	}
	return sealed, nil
}

// again backs up what a point of the VM holds.
func (d *driver) again(p *point) error {
	if s := d.openSession(); s != nil {
		if err := d.commit(s); err != nil {
			return err
		}
	}
	sizes := map[string]int64{}
	for name, c := range p.images {
		sizes[name] = c.size
	}
	if err := d.startAs("full", sizes); err != nil {
		return err
	}
	s := d.openSession()
	for _, k := range s.disks {
		for i, b := range p.images[k.name].blocks {
			if err := d.write(s, k, b[:min(int64(len(b)), k.want.size-i<<16)], i<<16); err != nil {
				return err
			}
		}
	}
	return d.commit(s)
}

func (d *driver) repair() error {
	n := 0
	for _, a := range d.e.store.Damaged() {
		r, err := d.e.store.RepairPack(context.Background(), a.Pack())
		if err != nil {
			return err
		}
		n += r.Repaired
	}
	if n == 0 {
		return errors.New("nothing was repaired")
	}
	return nil
}

// storeLater makes points until there is one whose blocks were not compressed.
func (d *driver) storeLater() error {
	if s := d.openSession(); s != nil {
		if err := d.commit(s); err != nil {
			return err
		}
	}
	for range 40 {
		if err := d.startAs("full", map[string]int64{"vda": bigDisk}); err != nil {
			return err
		}
		s := d.openSession()
		for range 3 {
			if err := d.writeBlocks(s, s.disks[0]); err != nil {
				return err
			}
		}
		if err := d.commit(s); err != nil || d.e.store.Stats().LaterBytes > 0 {
			return err
		}
	}
	return errors.New("nothing waits to be compressed")
}

// compress compresses what waits, the open packs nobody fills included.
func (d *driver) compress() error {
	if _, err := d.e.store.SealLater(true); err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	for _, pack := range d.e.store.LaterPacks() {
		if _, err := d.e.store.CompressPack(context.Background(), pack, nil); err != nil && !errors.Is(err, dedup.ErrDamaged) && !errors.Is(err, dedup.ErrUnknownAddr) {
			return err
		}
	}
	return nil
}

func (d *driver) loseDatabases() error {
	return errors.Join(d.e.fs.RemoveAll("/data/catalog"), d.e.fs.RemoveAll("/data/index"))
}

// base is the history that every act begins with.
type base struct {
	fs *crashfs.FS
	m  *model
}

// newBase makes backups of every VM, three in a row of one, sharing data. It is
// closed, with an open session of the last VM.
func newBase(seed uint64) (*base, error) {
	b := &base{fs: crashfs.New(), m: newModel()}
	e, err := start(b.fs, bootID(1), mustLive)
	if err != nil {
		return nil, err
	}
	for i, vm := range vms {
		d := &driver{e: e, m: b.m, rng: rand.New(rand.NewPCG(seed, uint64(i))), vm: vm}
		for range 4 {
			if err := errors.Join(d.startAs("auto", map[string]int64{"vda": bigDisk, "vdb": smallDisk}), d.fillSession(), d.fillSession(), d.commit(d.openSession())); err != nil {
				return nil, err
			}
		}
	}
	d := &driver{e: e, m: b.m, rng: rand.New(rand.NewPCG(seed, 9)), vm: vms[len(vms)-1], name: "left"}
	if err := errors.Join(d.start(), d.fillSession(), d.flush(d.openSession())); err != nil {
		return nil, err
	}
	return b, e.stop()
}

// stage is one run of an act.
type stage struct {
	act  *act
	fs   *crashfs.FS
	m    *model
	d    *driver
	from uint64 // operations before it
}

// stage prepares an act. on is called when what is to be cut begins.
func (b *base) stage(a *act, seed uint64, last lastWords) (*stage, error) {
	s := &stage{act: a, fs: b.fs.Kill(), m: b.m.snapshot()}
	s.d = &driver{m: s.m, rng: rand.New(rand.NewPCG(seed, 77)), vm: vms[0], name: "act"}
	if a.closed {
		s.d.e = &engine{fs: s.fs}
	} else {
		e, err := start(s.fs, bootID(1), last)
		if err != nil {
			return nil, err
		}
		s.d.e = e
	}
	if a.prepare != nil {
		if err := a.prepare(s.d); err != nil {
			return nil, fmt.Errorf("prepare %s: %w", a.name, err)
		}
	}
	s.from = s.fs.Ops()
	return s, nil
}

// perform does the act.
func (s *stage) perform(last lastWords) (err error) {
	if s.act.closed {
		e, err := start(s.fs, bootID(1), last)
		if err != nil {
			return err
		}
		s.d.e = e
		return nil
	}
	return s.act.do(s.d)
}

// pick chooses up to n of total operations, evenly, from a random first one.
func pick(total, n uint64, rng *rand.Rand) map[uint64]bool {
	if total == 0 {
		return nil
	}
	every := max(total/n, 1)
	out := map[uint64]bool{}
	for k := rng.Uint64N(every); k < total; k += every {
		out[k+1] = true
	}
	return out
}

const everyStep = 1 << 20

// perAct is how many operations of an act are cut, or fail, in a normal run.
func perAct(t testing.TB, n int) uint64 {
	if soak(t) > 1 {
		return everyStep
	}
	return uint64(steps(n))
}

// TestActsCut cuts every operation that changes the store at its steps: a kill
// and power cuts of all kinds.
func TestActsCut(t *testing.T) {
	seed := seedOf(t)
	b, err := newBase(seed)
	if err != nil {
		t.Fatal(err)
	}
	c := newChecker(t, seed)
	for i := range acts {
		a := &acts[i]
		before := c.states()
		ops := cutAct(t, b, a, seed+uint64(i), c)
		c.wait()
		t.Logf("%-20s %4d operations, %5d states", a.name, ops, c.states()-before)
	}
	c.finish()
}

// cutAct runs an act twice: to count its operations, and to cut it at them.
func cutAct(t *testing.T, b *base, a *act, seed uint64, c *checker) uint64 {
	s, err := b.stage(a, seed, mustLive)
	if err == nil {
		err = s.perform(mustLive)
	}
	if err != nil {
		t.Fatalf("%s: %v", a.name, err)
	}
	total := s.fs.Ops() - s.from
	if err := s.d.e.stop(); err != nil {
		t.Fatalf("%s: %v", a.name, err)
	}
	if s, err = b.stage(a, seed, mustLive); err != nil {
		t.Fatal(err)
	}
	times := uint64(1)
	if soak(t) > 1 {
		times = 4
	}
	chosen := pick(total, perAct(t, 6), rand.New(rand.NewPCG(seed, 5)))
	s.fs.Observe(func(at *crashfs.Instant) {
		if k := at.Op.Seq - s.from; chosen[k] {
			for j := range times {
				x := cutAt(at, s.m, 1, false, seed^k<<20^j<<60)
				x.twice, x.what = true, a.name+": "+x.what
				c.check(x)
			}
		}
	})
	err = s.perform(mustLive)
	if err := errors.Join(err, s.d.e.stop()); err != nil {
		t.Fatalf("%s: %v", a.name, err)
	}
	return total
}

// checker looks at cuts on workers of its own.
type checker struct {
	t    *testing.T
	seed uint64
	cuts chan *cut
	wg   sync.WaitGroup
	busy sync.WaitGroup

	mu            sync.Mutex
	count, failed int
}

func newChecker(t *testing.T, seed uint64) *checker {
	c := &checker{t: t, seed: seed, cuts: make(chan *cut)}
	for range workers {
		c.wg.Go(func() {
			for x := range c.cuts {
				n, err := x.survive(1)
				c.add(n, err)
				c.busy.Done()
			}
		})
	}
	return c
}

func (c *checker) check(x *cut) {
	c.busy.Add(1)
	c.cuts <- x
}

func (c *checker) add(n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count += n
	if err != nil {
		if c.failed++; c.failed <= 10 {
			c.t.Errorf("seed %d: %v", c.seed, err)
		}
	}
}

func (c *checker) states() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}

// wait waits for the cuts handed over.
func (c *checker) wait() { c.busy.Wait() }

func (c *checker) finish() {
	close(c.cuts)
	c.wg.Wait()
	c.t.Logf("%d states, %d failed", c.count, c.failed)
}
