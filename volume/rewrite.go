package volume

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/atomicfile"
	"github.com/strongroom-backup/strongroom/internal/mutant"
)

// rewrite is a clone's journal being written anew, beside writes and reads of the
// disk: chunk by chunk what is known of it, and raw bytes that were written lately.
// Then, while the disk waits, what has changed meanwhile, and a clean mark behind
// everything; when packs and journal are on the disk it takes the old one's place.
//
// Until it is renamed nobody looks at the new journal, and a start removes it.
// From the rename on it has all that was acknowledged, all of it flushed: so
// nothing that the old one's flushes promised is lost, whichever of the two a
// power cut leaves, and the disk goes on only when the rename is on the disk too.
//
// The numbers of its records begin far above those of the old one, so that a mark
// taken before the change means something that was before it.
type rewrite struct {
	d    *disk
	path string
	j    *journal
	at   map[uint32]copied // chunks that are in j as they are; guarded by disk.mu
	fold bool              // merge what is worth it, with the old journal
	kept int64             // bytes of chunk records

	counted counts // what replay will add for the raw records, those copied twice too
}

// copied is where a chunk is in the new journal.
type copied struct {
	spill   int64
	patches map[uint16][]patch
}

// numberGap is between the records of one journal and the next. Nobody ever writes
// so many while one is written anew.
const numberGap = 1 << 32

// uncopy notes that a chunk changes. The caller holds mu.
func (d *disk) uncopy(index uint32) {
	if d.clone != nil && d.clone.rewrite != nil && !mutant.On("volume/rewrite-misses-writes") {
		delete(d.clone.rewrite.at, index)
	}
}

// rewriteBeside writes the journal anew while the disk is in use.
func (d *disk) rewriteBeside() {
	old, err := d.rewriteSteps()
	d.mu.Lock()
	c := d.clone
	c.rewriting, c.rewrite = false, nil
	if err != nil && d.journal != nil { // disk full, most likely: the old one goes on
		c.rewriteAt = d.journal.end + d.s.m.rewriteFloor
	}
	d.mu.Unlock()
	if old != nil {
		d.s.m.epochs.wait() // reads may be under way that know places in it
		_ = old.file.Close()
	}
}

// rewriteSteps takes the steps of a rewrite, each as an operation of its own, so
// that whoever wants the session for himself need not wait.
func (d *disk) rewriteSteps() (old *journal, err error) {
	var r *rewrite
	if err := d.step(func() (err error) { r, err = d.beginRewrite(true); return err }); err != nil {
		return nil, err
	}
	for range rewritePasses {
		for _, index := range r.pending() {
			for n, more := 0, true; more && n < dedup.ChunkBlocks; n++ {
				err := d.step(func() (err error) { more, err = r.advance(index); return err })
				if err != nil {
					return nil, errors.Join(err, r.abandon())
				}
			}
		}
	}
	err = d.step(func() (err error) { old, err = r.finish(); return err })
	if old == nil {
		err = errors.Join(err, r.abandon())
	}
	return old, err
}

// step is an operation on the disk.
func (d *disk) step(f func() error) error {
	op, err := d.enter()
	if err != nil {
		return err
	}
	defer d.leave(op)
	return f()
}

// rewriteAlone does the same when nobody else uses the disk, and without a word
// to the old journal.
func (d *disk) rewriteAlone() error {
	r, err := d.beginRewrite(false)
	if err != nil {
		return err
	}
	old, err := r.finish()
	d.clone.rewrite = nil
	if old == nil {
		return errors.Join(err, r.abandon())
	}
	return errors.Join(err, old.file.Close())
}

// beginRewrite makes the new journal, empty.
func (d *disk) beginRewrite(fold bool) (*rewrite, error) {
	s := d.s
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.here(); err != nil {
		return nil, err
	}
	r := &rewrite{d: d, path: s.m.rewritePath(s.file.ID, d.spec.Disk), at: map[uint32]copied{}, fold: fold}
	if err := r.remove(); err != nil { // of an attempt that failed
		return nil, err
	}
	var err error
	if r.j, err = createJournal(s.m.fs, r.path, s.owner(d.spec.Disk), d.spec.Size, d.journal.seq+numberGap); err != nil {
		return nil, err
	}
	d.clone.rewrite = r
	return r, nil
}

// pending are the chunks that the new journal has not got as they are.
func (r *rewrite) pending() (list []uint32) {
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	for index := range r.d.chunks {
		if _, ok := r.at[index]; !ok {
			list = append(list, index)
		}
	}
	return list
}

// advance merges a block of a chunk that is worth it, or copies the chunk, which
// is the last step.
func (r *rewrite) advance(index uint32) (more bool, err error) {
	d := r.d
	d.mu.Lock()
	if err := d.here(); err != nil {
		d.mu.Unlock()
		return false, err
	}
	b, found := r.foldable(d.chunks[index])
	if !found {
		defer d.mu.Unlock()
		return false, r.copy(index)
	}
	d.mu.Unlock()
	return true, d.log(func() error {
		c := d.chunks[index]
		if len(c.patches[b]) == 0 { // merged or overwritten meanwhile
			return nil
		}
		return d.fold(index, c, b)
	})
}

// foldable finds a block whose raw extents should not be copied: they are many,
// or have been copied before.
func (r *rewrite) foldable(c *chunk) (b uint16, found bool) {
	if !r.fold {
		return 0, false
	}
	all := 0
	for b, list := range c.patches {
		if len(list) >= foldPatches || list[len(list)-1].cold(r.d.clone.rewritten) {
			return b, true
		}
		if all += len(list); all > maxChunkPatches {
			return b, true
		}
	}
	return 0, false
}

// cold tells whether a patch was there when the journal was written anew last.
func (p *patch) cold(rewritten int64) bool { return p.at >= 0 && p.at < rewritten }

// copy writes all that is known of a chunk to the new journal. The caller holds
// mu.
func (r *rewrite) copy(index uint32) error {
	d := r.d
	c := d.chunks[index]
	a, err := d.load(c)
	if err != nil {
		return err
	}
	r.j.begin(recChunk)
	r.j.buf = encodeChunk(r.j.buf, index, a)
	r.kept += int64(len(r.j.buf))
	x := copied{patches: map[uint16][]patch{}}
	if x.spill, err = r.j.finish(); err != nil {
		return err
	}
	for b, list := range c.patches {
		block := int64(index)*dedup.ChunkBlocks + int64(b)
		for i := range list {
			p, err := r.copyPatch(block, list[i])
			if err != nil {
				return err
			}
			x.patches[b] = append(x.patches[b], p)
		}
	}
	r.at[index] = x
	return nil
}

func (r *rewrite) copyPatch(block int64, p patch) (patch, error) {
	off := block*dedup.BlockSize + int64(p.off)
	if p.at < 0 {
		r.counted.zeroed += int64(p.n)
		return p, r.j.appendZero(off, int64(p.n), false)
	}
	buf := blockBuffers.Get().(*[dedup.BlockSize]byte)
	defer blockBuffers.Put(buf)
	if err := r.d.rawBytes(buf[:p.n], 0, &p, r.d.journal.file); err != nil {
		return p, err
	}
	var err error
	p.at, err = r.j.appendRaw(off, buf[:p.n])
	r.counted.written += int64(p.n)
	return p, err
}

// finish copies what is left while the disk waits, makes all of it power-cut safe
// and puts the new journal in the old one's place, which it returns.
func (r *rewrite) finish() (old *journal, err error) {
	d := r.d
	d.syncing.Lock() // before mu; a sync under way is of the old one
	defer d.syncing.Unlock()
	d.mu.Lock()
	lost, err := r.replace()
	if err == nil && !lost {
		old = d.journal
		r.install()
	}
	d.mu.Unlock()
	if lost { // without mu, which comes after what kill takes
		d.s.kill(err.Error())
	}
	return old, err
}

// replace makes the new journal complete and takes it to the old one's path. lost
// says that the session cannot go on.
func (r *rewrite) replace() (lost bool, err error) {
	d := r.d
	if err := d.here(); err != nil {
		return false, err
	}
	if d.syncErr != nil {
		return false, d.syncErr
	}
	if err := r.complete(); err != nil {
		return false, err
	}
	if err := d.s.writer.Sync(); err != nil {
		return true, fmt.Errorf("a pack could not be synced: %w", err)
	}
	if err := r.j.appendMark(r.j.seq, r.j.first); err != nil {
		return false, err
	}
	if !mutant.On("volume/rewrite-unsynced") {
		if err := r.j.file.Sync(); err != nil {
			return false, err
		}
	}
	path := d.s.m.journalPath(d.s.file.ID, d.spec.Disk)
	err = d.s.m.fs.Rename(r.path, path)
	if err == nil {
		err = atomicfile.SyncDir(d.s.m.fs, d.s.m.sessionDir(d.s.file.ID))
	}
	if err != nil {
		return true, fmt.Errorf("replace session journal: %w", err)
	}
	return false, nil
}

// complete copies what has changed, and the counts.
func (r *rewrite) complete() error {
	d := r.d
	total := d.total
	for index := range d.chunks {
		if _, ok := r.at[index]; !ok {
			if err := r.copy(index); err != nil {
				return err
			}
		}
	}
	// What replay adds for the raw records is in the journal's total already.
	total.written -= r.counted.written
	total.zeroed -= r.counted.zeroed
	return r.j.appendMap(total, nil)
}

// install makes the new journal the disk's.
func (r *rewrite) install() {
	d := r.d
	for index, c := range d.chunks {
		x := r.at[index]
		switch {
		case c.blocks != nil:
			c.patches = x.patches // others than the old ones, which readers may have
		case c.spill != spillZero:
			c.spill = x.spill
		}
	}
	d.journal, d.synced, d.isClean, d.dirty = r.j, r.j.seq, true, nil
	c := d.clone
	c.retired, c.marked, c.rewrites = nil, r.j.seq-1, c.rewrites+1
	c.rewritten, c.rewriteAt = r.j.end, r.j.end+max(d.s.m.rewriteFloor, r.kept)
	d.s.m.stats.rewrites.Add(1)
}

// abandon gives a new journal up that did not become the disk's.
func (r *rewrite) abandon() error { return errors.Join(r.j.file.Close(), r.remove()) }

func (r *rewrite) remove() error {
	if err := r.d.s.m.fs.Remove(r.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
