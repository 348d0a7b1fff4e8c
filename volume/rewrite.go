package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"math"

	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/atomicfile"
	"github.com/strongroom-backup/strongroom/internal/mutant"
)

// rewrite is a clone's journal being written anew, beside writes and reads of the
// disk: chunk by chunk what is known of it, with the raw bytes that lie over it.
// Then, while the disk waits, what has changed meanwhile, and a clean mark behind
// everything; when packs and journal are on the disk it takes the old one's place.
// Raw bytes are copied, not merged into their blocks: that costs a hundredth.
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
	kept int64 // bytes of chunk records

	// By disk.mu: the chunks that are in j, and what replay will add to the disk's
	// counters for raw bytes.
	at      map[uint32]*copied
	counted counts
}

// copied is what the new journal says of a chunk.
type copied struct {
	spill   int64              // of its chunk record
	addrs   *addrs             // what that and later maps say; nil when nobody need know
	patches map[uint16][]patch // what it says then
	changed bool               // since
	lapsed  map[uint16]bool    // blocks whose patches have gone since
}

// numberGap is between the records of one journal and the next. Nobody ever writes
// so many while one is written anew.
const numberGap = 1 << 32

// uncopy notes that a chunk changes. The caller holds mu.
func (d *disk) uncopy(index uint32) {
	if x := d.copied(index); x != nil && !mutant.On("volume/rewrite-misses-writes") {
		x.changed = true
	}
}

// lapse notes that the patches of a block go. The caller holds mu.
func (d *disk) lapse(index uint32, b uint16) {
	if x := d.copied(index); x != nil {
		if x.lapsed == nil {
			x.lapsed = map[uint16]bool{}
		}
		x.lapsed[b] = true
	}
}

// copied is what a new journal has of a chunk, if one is being written.
func (d *disk) copied(index uint32) *copied {
	if d.clone == nil || d.clone.rewrite == nil {
		return nil
	}
	return d.clone.rewrite.at[index]
}

// rewriteBeside writes the journal anew while the disk is in use.
func (d *disk) rewriteBeside() {
	old, err := d.rewriteSteps()
	d.mu.Lock()
	c, done := d.clone, d.clone.rewriting
	c.rewriting, c.rewrite = nil, nil
	close(done)
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
	if err := d.step(func() (err error) { r, err = d.beginRewrite(); return err }); err != nil {
		return nil, err
	}
	for range rewritePasses {
		for _, index := range r.pending() {
			for n, more := 0, true; more && n < dedup.ChunkBlocks; n++ {
				if err := d.step(func() (err error) { more, err = r.advance(index); return err }); err != nil {
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

// rewriteAlone does the same when nobody else uses the disk. Nothing is written to
// the old journal.
func (d *disk) rewriteAlone() error {
	r, err := d.beginRewrite()
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
func (d *disk) beginRewrite() (*rewrite, error) {
	s := d.s
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.here(); err != nil {
		return nil, err
	}
	r := &rewrite{d: d, path: s.m.rewritePath(s.file.ID, d.spec.Disk), at: map[uint32]*copied{}}
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
		if r.lacks(index) {
			list = append(list, index)
		}
	}
	return list
}

// lacks tells whether the new journal has not got a chunk as it is.
func (r *rewrite) lacks(index uint32) bool {
	x := r.at[index]
	return x == nil || x.changed
}

// advance copies a piece of a chunk.
func (r *rewrite) advance(index uint32) (more bool, err error) {
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	if err := r.d.here(); err != nil {
		return false, err
	}
	return r.copy(index, rewriteStep)
}

// copy writes what the new journal lacks of a chunk, at most so many raw extents.
// The caller holds mu.
func (r *rewrite) copy(index uint32, limit int) (more bool, err error) {
	c, x := r.d.chunks[index], r.at[index]
	if x == nil || x.addrs == nil || c.blocks == nil {
		x, err = r.copyMap(index, c)
	} else {
		err = r.copyChanges(index, c, x)
	}
	if err != nil {
		return false, err
	}
	r.at[index] = x
	for b, list := range c.patches {
		for _, p := range list[len(x.patches[b]):] {
			if limit--; limit < 0 {
				x.changed = true
				return true, nil
			}
			p, err := r.copyPatch(int64(index)*dedup.ChunkBlocks+int64(b), p)
			if err != nil {
				return false, err
			}
			x.patches[b] = append(x.patches[b], p)
		}
	}
	x.changed = false
	return false, nil
}

// copyMap writes all that is known of a chunk, but for its patches.
func (r *rewrite) copyMap(index uint32, c *chunk) (*copied, error) {
	a, err := r.d.load(c)
	if err != nil {
		return nil, err
	}
	r.j.begin(recChunk)
	r.j.buf = encodeChunk(r.j.buf, index, a)
	r.kept += int64(len(r.j.buf))
	x := &copied{patches: map[uint16][]patch{}}
	if len(c.patches) > 0 {
		x.addrs = a
	}
	x.spill, err = r.j.finish()
	return x, err
}

// copyChanges writes the blocks that lie elsewhere since they were copied, or
// lost their patches.
func (r *rewrite) copyChanges(index uint32, c *chunk, x *copied) error {
	var runs []mapped
	for b := range c.blocks {
		if c.blocks[b] != x.addrs[b] || x.lapsed[uint16(b)] {
			runs = append(runs, mapped{block: int64(index)*dedup.ChunkBlocks + int64(b), count: 1, addr: c.blocks[b]})
			delete(x.patches, uint16(b))
		}
	}
	if len(runs) == 0 {
		return nil
	}
	*x.addrs, x.lapsed = *c.blocks, nil
	return r.j.appendMap(counts{}, runs)
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
	if err := d.s.m.fs.Rename(r.path, d.s.m.journalPath(d.s.file.ID, d.spec.Disk)); err != nil {
		there, lookErr := r.inPlace()
		if lookErr == nil && !there {
			return false, fmt.Errorf("replace session journal: %w", err)
		}
		if lookErr != nil {
			return true, fmt.Errorf("replace session journal: %w; whether it was replaced is not known: %w", err, lookErr)
		}
	}
	if err := atomicfile.SyncDir(d.s.m.fs, d.s.m.sessionDir(d.s.file.ID)); err != nil {
		return true, fmt.Errorf("replace session journal: %w", err)
	}
	return false, nil
}

// inPlace looks whether a rename that failed took effect: the journal there has
// the new one's salt.
func (r *rewrite) inPlace() (bool, error) {
	f, err := r.d.s.m.fs.Open(r.d.s.m.journalPath(r.d.s.file.ID, r.d.spec.Disk))
	if err != nil {
		return false, err
	}
	defer f.Close()
	var there, ours [journalHeaderSize]byte
	if err := errors.Join(readFull(f, there[:], 0), readFull(r.j.file, ours[:], 0)); err != nil {
		return false, err
	}
	return there == ours, nil
}

// complete copies what has changed, and the counts.
func (r *rewrite) complete() error {
	d := r.d
	total := d.total
	for index := range d.chunks {
		if r.lacks(index) {
			if _, err := r.copy(index, math.MaxInt); err != nil {
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
	c.kept, c.rewriteAt = r.kept, 0
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
