package catalog

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/strongroom-backup/strongroom/internal/mutant"
)

// describe gives a point other attributes, which may move it to the trash or
// back.
func (a *applier) describe(ch *change, t *described) error {
	b := a.indexed()
	at, p, err := getPoint(b, t.id)
	if err != nil {
		return fmt.Errorf("attributes of point %s: %w", t.id, err)
	}
	p.Attributes = t.Attributes
	ch.mark.lastTime = later(ch.mark.lastTime, t.Trashed)
	trashed := !t.Trashed.IsZero()
	if trashed == at.trashed {
		return putPoint(b, &p)
	}
	if ch.trashed = -1; trashed {
		ch.trashed = 1
	}
	return errors.Join(b.Delete(at.key(), nil), putPoint(b, &p), ch.sum(b, p.VM))
}

// sum makes a VM's summary anew, from what b leaves of it.
func (ch *change) sum(b *pebble.Batch, vm string) (err error) {
	if ch.before, err = getVM(b, vm); err != nil {
		return err
	}
	if ch.after, err = sumUp(b, vm); err != nil {
		return err
	}
	return putVM(b, &ch.after)
}

// removePoint deletes a point. Its chunk lists stay until it is forgotten.
func (a *applier) removePoint(ch *change, t *tombstone) error {
	b := a.indexed()
	at, p, err := getPoint(b, t.id)
	if err != nil {
		return fmt.Errorf("remove point %s: %w", t.id, err)
	}
	ch.mark.lastTime = later(ch.mark.lastTime, t.time)
	ch.pending = 1
	if at.trashed {
		ch.trashed = -1
	}
	return errors.Join(dropPoint(b, at, &p, t.time), b.Set(pendingKey(p.ID), nil, nil),
		adopt(b, p.VM, p.orphans), ch.sum(b, p.VM))
}

// dropPoint deletes what there is of a point but for its chunk lists, and
// remembers that its id is used.
func dropPoint(b *pebble.Batch, at place, p *Point, when time.Time) error {
	err := errors.Join(b.Delete(at.key(), nil), b.Delete(pointVMKey(p.ID), nil), b.Set(removedKey(p.ID), appendTime(nil, when), nil))
	for _, f := range p.Blobs {
		err = errors.Join(err, b.Delete(blobKey(p.ID, f.Name), nil))
	}
	return err
}

// orphans gives an image that descends from one of p the parent of that.
func (p *Point) orphans(child *Image) bool {
	i := slices.IndexFunc(p.Images, func(im Image) bool { return im.Disk == child.Disk && child.Parent == p.ID })
	if i < 0 {
		return false
	}
	child.Parent = p.Images[i].Parent
	child.follow(&p.Images[i])
	if mutant.On("catalog/orphans") {
		child.Parent = ""
	}
	return true
}

// adopt lets change alter the images of a VM's points, live and in the trash.
func adopt(b *pebble.Batch, vm string, change func(*Image) bool) error {
	var altered []Point
	look := func(p *Point) error {
		any := false
		for i := range p.Images {
			any = change(&p.Images[i]) || any
		}
		if any {
			altered = append(altered, *p)
		}
		return nil
	}
	err := errors.Join(eachPoint(b, vm, look), eachTrashed(b, vm, look))
	for i := range altered {
		err = errors.Join(err, putPoint(b, &altered[i]))
	}
	return err
}

func (a *applier) setPolicy(t *ruled) error {
	if len(t.value) == 0 {
		return a.batch.Delete(policyKey(t.vm), nil)
	}
	return a.batch.Set(policyKey(t.vm), t.value, nil)
}

// mergeImages takes the images that go out of their points and gives Into what
// it gets of them.
func (a *applier) mergeImages(ch *change, t *merged) error {
	b := a.indexed()
	var refs refChanges
	_, into, err := getPoint(b, t.into)
	if err != nil {
		return t.failed(err)
	}
	target := into.image(t.disk)
	if target == nil {
		return t.failed(into.lacks(t.disk))
	}
	if t.direction == mergeCommit {
		if err := t.inherit(b, &into, target, &refs); err != nil {
			return t.failed(err)
		}
	}
	for _, id := range t.gone {
		if err := t.take(b, id, target, ch, &refs); err != nil {
			return t.failed(err)
		}
	}
	if target.Mode == Full && t.direction == mergePull {
		target.Gone = 0 // nothing is before it
	}
	target.Merged, target.MergedFrom = t.time, t.from
	ch.mark.lastTime = later(ch.mark.lastTime, t.time)
	if ch.died, err = refs.write(b, b); err != nil {
		return t.failed(err)
	}
	heirs := target.Parent
	if t.direction == mergeCommit && !mutant.On("catalog/merge-heirs") {
		heirs = t.into
	}
	return errors.Join(putPoint(b, &into), adopt(b, t.vm, t.orphans(heirs)), ch.sum(b, t.vm), bury(b, b, ch.died),
		ch.mark.enqueue(b, queueDied, ch.died))
}

func (t *merged) failed(err error) error {
	return fmt.Errorf("merge disk %s of VM %s from %s into %s: %w", t.disk, t.vm, t.from, t.into, err)
}

// inherit gives an image the content of t.from.
func (t *merged) inherit(b *pebble.Batch, into *Point, target *Image, refs *refChanges) error {
	_, from, err := getPoint(b, t.from)
	if err != nil {
		return err
	}
	top := from.image(t.disk)
	if top == nil {
		return from.lacks(t.disk)
	}
	target.Size, target.Root, target.Checkpoint = top.Size, top.Root, top.Checkpoint
	if err := t.dropFiles(b, into, refs); err != nil {
		return err
	}
	list, err := t.list(b, t.from, t.disk)
	if err != nil {
		return err
	}
	old, err := t.list(b, t.into, t.disk)
	if err != nil {
		return err
	}
	if mutant.On("catalog/merge-leaks-references") {
		old = nil
	}
	return errors.Join(refs.list(list, 1), refs.list(old, -1), b.Set(imageKey(t.into, t.disk), list, nil))
}

func (t *merged) list(r pebble.Reader, id, part string) ([]byte, error) {
	list, err := get(r, imageKey(id, part))
	if err != nil {
		return nil, missing(err, "image of %s at point %s", partName(part), id)
	}
	return list, nil
}

// dropFiles takes the files out of a point that were understood as the disk,
// whose image goes or becomes another.
func (t *merged) dropFiles(b *pebble.Batch, p *Point, refs *refChanges) error {
	if mutant.On("catalog/merge-keeps-files") {
		return nil
	}
	for _, name := range p.filesOf(t.disk) {
		key := FileKey(name)
		list, err := t.list(b, p.ID, key)
		if err != nil {
			return err
		}
		if err := errors.Join(refs.list(list, -1), b.Delete(imageKey(p.ID, key), nil)); err != nil {
			return err
		}
	}
	p.Files = slices.DeleteFunc(p.Files, func(f FileImage) bool { return f.Disk == t.disk })
	return nil
}

// take deletes one image, and its point if that has no other.
func (t *merged) take(b *pebble.Batch, id string, target *Image, ch *change, refs *refChanges) error {
	at, p, err := getPoint(b, id)
	if err != nil {
		return err
	}
	im := p.image(t.disk)
	if im == nil || id == t.into {
		return p.lacks(t.disk)
	}
	target.count(im)
	target.follow(im)
	if id == t.from && t.direction == mergePull {
		if target.Parent = im.Parent; im.Parent == "" {
			target.Mode = Full
		}
	}
	list, err := t.list(b, id, t.disk)
	if err != nil {
		return err
	}
	err = errors.Join(refs.list(list, -1), b.Delete(imageKey(id, t.disk), nil), t.dropFiles(b, &p, refs))
	if err != nil {
		return err
	}
	p.Images = slices.DeleteFunc(p.Images, func(im Image) bool { return im.Disk == t.disk })
	if len(p.Images)+len(p.Files) > 0 {
		return putPoint(b, &p)
	}
	if at.trashed {
		ch.trashed--
	}
	return dropPoint(b, at, &p, t.time)
}

// orphans gives images that descend from one that went the parent heirs.
func (t *merged) orphans(heirs string) func(*Image) bool {
	gone := map[string]bool{}
	for _, id := range t.gone {
		gone[id] = true
	}
	return func(im *Image) bool {
		if im.Disk != t.disk || !gone[im.Parent] {
			return false
		}
		im.Parent = heirs
		return true
	}
}

// follow counts an image that goes as one that was before this one.
func (im *Image) follow(gone *Image) { im.Gone = addCapped(im.Gone, addCapped(gone.Gone, 1)) }

// count adds what was transferred for another image.
func (im *Image) count(other *Image) {
	im.WrittenBytes = addCapped(im.WrittenBytes, other.WrittenBytes)
	im.ZeroedBytes = addCapped(im.ZeroedBytes, other.ZeroedBytes)
	im.NewBytes = addCapped(im.NewBytes, other.NewBytes)
	im.StoredBytes = addCapped(im.StoredBytes, other.StoredBytes)
}

// addCapped adds two counters, which are not negative.
func addCapped(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

func (p *Point) image(disk string) *Image {
	i := slices.IndexFunc(p.Images, func(im Image) bool { return im.Disk == disk })
	if i < 0 {
		return nil
	}
	return &p.Images[i]
}
