package maintenance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
)

// AffectedImage needs blocks that are damaged.
type AffectedImage struct {
	Point, VM, Disk string
	Time            time.Time
	Blocks          int64
}

// DamagedPack has blocks that cannot be read.
type DamagedPack struct {
	Pack   uint64
	Whole  bool  // missing, or unreadable altogether
	Blocks int64 // known to be damaged
}

// damageState is which images are affected by which damage.
type damageState struct {
	looking sync.Mutex // held while affected images are looked for

	mu     sync.Mutex
	known  damage          // the images below were looked for with
	upTo   time.Time       // images of points up to then were looked at
	images []AffectedImage // by VM and time

	tried     time.Time // when a repair was last tried
	committed uint64    // backups by then
}

// damage is a set of blocks.
type damage struct {
	blocks []dedup.Addr // ascending
	packs  []uint64     // ascending; all of their blocks
}

func (e *Engine) damageNow() damage {
	return damage{blocks: e.blocks.Damaged(), packs: e.blocks.DamagedPacks()}
}

func (d *damage) none() bool { return len(d.blocks) == 0 && len(d.packs) == 0 }

func (d *damage) equal(o *damage) bool {
	return slices.Equal(d.blocks, o.blocks) && slices.Equal(d.packs, o.packs)
}

// hits reports whether one of n consecutive slots from a on is damaged.
func (d *damage) hits(a dedup.Addr, n int) bool {
	i, _ := slices.BinarySearch(d.blocks, a)
	if i < len(d.blocks) && d.blocks[i] < a+dedup.Addr(n) {
		return true
	}
	_, whole := slices.BinarySearch(d.packs, a.Pack())
	return whole
}

// Affected lists the images that cannot be read whole, by VM and time, as of
// the last look. Damage met since is looked at in the background. The caller
// must not change the list.
func (e *Engine) Affected() []AffectedImage {
	e.damage.mu.Lock()
	defer e.damage.mu.Unlock()
	return e.damage.images
}

// DamagedPacks lists the damage that is known and not repaired.
func (e *Engine) DamagedPacks() (list []DamagedPack) {
	d := e.damageNow()
	for _, pack := range d.list() {
		p := DamagedPack{Pack: pack}
		_, p.Whole = slices.BinarySearch(d.packs, pack)
		for _, a := range d.blocks {
			if a.Pack() == pack {
				p.Blocks++
			}
		}
		list = append(list, p)
	}
	return list
}

// list are the packs with damage, ascending.
func (d *damage) list() []uint64 {
	packs := slices.Clone(d.packs)
	for _, a := range d.blocks {
		packs = append(packs, a.Pack())
	}
	slices.Sort(packs)
	return slices.Compact(packs)
}

// HealDue looks for the images that new damage affects, and tries to repair when
// a backup may have brought what is needed.
func (e *Engine) HealDue(ctx context.Context) error {
	now := e.damageNow()
	e.damage.mu.Lock()
	same := now.equal(&e.damage.known)
	e.damage.mu.Unlock()
	if !same {
		if err := e.lookAtDamage(ctx); err != nil {
			return err
		}
	}
	if now.none() || !e.repairDue() {
		return nil
	}
	_, _, err := e.Repair(ctx)
	return err
}

// repairDue reports whether a repair might find more than the last one did.
func (e *Engine) repairDue() bool {
	committed := e.vols.Stats().Committed
	d := &e.damage
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tried.IsZero() || committed != d.committed || e.now().Sub(d.tried) >= repairEvery
}

// Repair replaces damaged blocks of which there is another copy by now. left
// blocks have none.
func (e *Engine) Repair(ctx context.Context) (repaired, left int, err error) {
	repaired, left, err = e.repair(ctx)
	return repaired, left, errors.Join(err, e.lookAtDamage(ctx))
}

// repair tries the packs with damaged blocks, and those of more.
func (e *Engine) repair(ctx context.Context, more ...uint64) (repaired, left int, err error) {
	d := &e.damage
	d.mu.Lock()
	d.tried, d.committed = e.now(), e.vols.Stats().Committed
	d.mu.Unlock()
	now := e.damageNow()
	packs, err := e.repairable(append(now.list(), more...))
	if err != nil {
		return 0, 0, err
	}
	var errs []error
	for _, pack := range packs {
		if err := ctx.Err(); err != nil {
			return repaired, left, err
		}
		r, err := e.blocks.RepairPack(ctx, pack)
		repaired += r.Repaired
		left += r.Left
		if err != nil && !errors.Is(err, dedup.ErrUnknownAddr) { // else it was collected meanwhile
			errs = append(errs, err)
		}
	}
	e.count(func(s *Stats) { s.Verify.Repaired += uint64(repaired) })
	return repaired, left, errors.Join(errs...)
}

// repairable are those of the packs that can be written anew: neither open nor
// lost as a whole.
func (e *Engine) repairable(packs []uint64) (list []uint64, err error) {
	if len(packs) == 0 {
		return nil, nil
	}
	slices.Sort(packs)
	err = e.blocks.Packs(func(p dedup.PackInfo) bool {
		if _, wanted := slices.BinarySearch(packs, p.ID.Pack); wanted && !p.Open && !p.Missing && !p.Unreadable {
			list = append(list, p.ID.Pack)
		}
		return true
	})
	return list, err
}

// lookAtDamage looks for the images that need damaged blocks.
func (e *Engine) lookAtDamage(ctx context.Context) error {
	e.damage.looking.Lock()
	defer e.damage.looking.Unlock()
	now := e.damageNow()
	upTo, err := e.newest()
	if err != nil {
		return err
	}
	var images []AffectedImage
	if !now.none() {
		if images, err = e.affected(ctx, &now); err != nil {
			return fmt.Errorf("look for the images that damage affects: %w", err)
		}
	}
	d := &e.damage
	d.mu.Lock()
	changed := !slices.Equal(images, d.images)
	d.known, d.upTo, d.images = now, upTo, images
	d.mu.Unlock()
	if f := e.events.Affected; f != nil && changed {
		f(images)
	}
	return nil
}

// newest is the time of the newest point. Points get ascending times, so a later
// look sees every point up to it.
func (e *Engine) newest() (t time.Time, err error) {
	vms, err := e.cat.VMs()
	for _, v := range vms {
		if v.LatestTime.After(t) {
			t = v.LatestTime
		}
	}
	return t, err
}

func (e *Engine) affected(ctx context.Context, d *damage) ([]AffectedImage, error) {
	list, err := e.cat.Affected(ctx, d.hits)
	if err != nil {
		return nil, err
	}
	var images []AffectedImage
	for _, a := range list {
		p, err := e.cat.Point(a.Point)
		switch {
		case errors.Is(err, catalog.ErrNotFound): // removed meanwhile
			continue
		case err != nil:
			return nil, err
		}
		images = append(images, AffectedImage{Point: a.Point, VM: a.VM, Disk: a.Disk, Time: p.Time, Blocks: a.Blocks})
	}
	slices.SortFunc(images, func(a, b AffectedImage) int {
		return cmp.Or(cmp.Compare(a.VM, b.VM), a.Time.Compare(b.Time), cmp.Compare(a.Disk, b.Disk))
	})
	return images, nil
}

// isDamaged reports whether an image cannot be read whole, as far as it is known
// at this moment. The list of affected images answers when it is young enough,
// else the image itself is looked at.
func (e *Engine) isDamaged(p *catalog.Point, disk string) (bool, error) {
	now := e.damageNow()
	if now.none() {
		return false, nil
	}
	d := &e.damage
	d.mu.Lock()
	fresh := now.equal(&d.known) && !p.Time.After(d.upTo)
	listed := slices.ContainsFunc(d.images, func(a AffectedImage) bool { return a.Point == p.ID && a.Disk == disk })
	d.mu.Unlock()
	if fresh {
		return listed, nil
	}
	bad := false
	err := e.eachRun(context.Background(), p.ID, disk, func(r catalog.Run) {
		bad = bad || now.hits(r.Addr, int(r.Count))
	})
	return bad, err
}

// outdate makes the list of affected images be looked for again: images changed.
func (e *Engine) outdate() {
	e.damage.mu.Lock()
	defer e.damage.mu.Unlock()
	e.damage.upTo = time.Time{}
	e.damage.known = damage{packs: []uint64{0}} // like no damage there is
}
