package volume

import (
	"errors"
	"fmt"
	"sync"

	"github.com/strongroom-backup/strongroom/dedup"
)

// disk is one disk of a session, or the content of one file: its journal and
// what the journal says.
type disk struct {
	s    *session
	spec diskFile
	file *fileEnd // of a file; nil for a disk
	gone bool     // an added disk that was dropped, or a clone's before it was resumed; guarded by session.gate

	clone *cloneDisk // of a clone; nil for others

	sources []*file // whose blocks were copied here; guarded by session.mu
	base    base    // what shows through untouched blocks: the parent, or nothing
	hint    base    // what new blocks are first compared with

	mu       sync.Mutex
	journal  *journal // nil once the session has ended
	chunks   map[uint32]*chunk
	resident map[uint32]*chunk // those with a map in memory
	tick     uint64            // clock of the least-recently-used order
	patched  int               // blocks with patches
	raw      int64             // bytes of patches, see maxRaw
	recent   []int64           // blocks patched since settle last ran
	total    counts
	isClean  bool       // the last mark in the journal is recClean
	flushed  uint64     // records replayed up to the last flush: with the recClean, or without a clone's mark
	synced   uint64     // records below this number are on the disk
	syncing  sync.Mutex // one sync of the journal at a time; taken before mu
	syncErr  error      // why no sync is tried any more; guarded by syncing
	dirty    *dirtyMark // not nil while a recDirty waits for its sync
}

func newDisk(s *session, spec diskFile) (*disk, error) {
	d := &disk{s: s, spec: spec, chunks: map[uint32]*chunk{}, resident: map[uint32]*chunk{}, isClean: true}
	if s.file.Clone {
		d.clone = newCloneDisk()
	}
	if spec.Hint != "" {
		d.hint, _ = s.m.loadBase(spec.Hint, spec.Disk) // a point deleted meanwhile only costs a hint
	}
	if spec.Parent != "" {
		b, err := s.m.loadBase(spec.Parent, spec.Disk)
		if err != nil {
			return nil, fmt.Errorf("parent of disk %s: %w", spec.Disk, err)
		}
		d.base, d.hint = b, b
	}
	return d, nil
}

// loadBase reads an image's chunk list.
func (m *Manager) loadBase(point, disk string) (base, error) {
	p, err := m.cat.Point(point)
	if err != nil {
		return base{}, err
	}
	list, err := m.cat.ChunkList(point, disk)
	return base{size: imageOf(p, disk).Size, chunks: list}, err
}

func (d *disk) numBlocks() int64 { return blocksOf(d.spec.Size) }
func (d *disk) numChunks() int64 { return (d.spec.Size + dedup.ChunkSize - 1) / dedup.ChunkSize }

func blocksOf(size int64) int64 { return (size + dedup.BlockSize - 1) / dedup.BlockSize }

func (d *disk) counts() counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.total
}

// journalBytes is how far the journal goes; 0 once the session has ended.
func (d *disk) journalBytes() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.journal == nil {
		return 0
	}
	return d.journal.end
}

func (c *counts) add(o counts) {
	c.written += o.written
	c.zeroed += o.zeroed
	c.fresh += o.fresh
	c.stored += o.stored
}

func (d *disk) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.journal == nil {
		return nil
	}
	err := d.journal.file.Close()
	d.journal, d.chunks, d.resident = nil, nil, nil
	return err
}

// dirtyMark lets the writers that come after a recDirty wait for its sync,
// which the first of them performs.
type dirtyMark struct {
	once sync.Once
	err  error
}

// log runs f, which appends to the journal and applies what it appended, under
// the disk's lock. When log returns nil the records are with the kernel, and a
// power cut would find the session marked dirty.
func (d *disk) log(f func() error) error {
	if err := d.logOnly(f); err != nil || d.clone == nil {
		return err
	}
	return d.tend()
}

// logOnly is log for who looks after what it leaves himself.
func (d *disk) logOnly(f func() error) error {
	d.mu.Lock()
	err := d.here()
	if err == nil {
		err = d.markDirty()
	}
	if err == nil {
		err = f()
	}
	wait := d.dirty
	d.mu.Unlock()
	if err != nil || wait == nil {
		return err
	}
	return d.syncDirty(wait)
}

// syncDirty waits until a dirty mark is on the disk.
func (d *disk) syncDirty(wait *dirtyMark) error {
	wait.once.Do(func() {
		wait.err = d.syncJournal()
		d.mu.Lock()
		if wait.err == nil && d.dirty == wait {
			d.dirty = nil
		}
		d.mu.Unlock()
	})
	return wait.err
}

// here refuses what has no journal any more.
func (d *disk) here() error {
	if d.journal == nil {
		return fmt.Errorf("%w: %s of session %s is gone", ErrClosed, d.what(), d.s.file.ID)
	}
	return nil
}

// what is the disk or the file in an error.
func (d *disk) what() string {
	if d.file != nil {
		return d.spec.Disk
	}
	return "disk " + d.spec.Disk
}

// end is where the content ends: a disk at its size, a file at its length.
func (d *disk) end() int64 {
	if d.file != nil {
		return d.file.length
	}
	return d.spec.Size
}

// markDirty appends recDirty when the journal's last mark says clean.
func (d *disk) markDirty() error {
	if !d.isClean {
		return nil
	}
	var err error
	if d.clone != nil {
		err = d.journal.appendMark(d.clone.marked, d.synced)
	} else {
		err = d.journal.mark(recDirty)
	}
	if err != nil {
		return err
	}
	d.isClean, d.dirty = false, new(dirtyMark)
	return nil
}

// mark is the number of the next record, for clean.
func (d *disk) mark() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.journal == nil {
		return 0
	}
	return d.journal.seq
}

// clean syncs the journal. When nothing was appended since mark, and so every
// pack the journal names is synced, it first appends recClean: from then on a
// power cut loses nothing that was acknowledged.
func (d *disk) clean(mark uint64) error {
	d.mu.Lock()
	if d.journal == nil { // a file that nobody has open any more
		d.mu.Unlock()
		return nil
	}
	if err := d.markClean(mark); err != nil {
		d.mu.Unlock()
		return err
	}
	d.mu.Unlock()
	if err := d.syncJournal(); err != nil || d.clone == nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.clone.covered(mark)
	return nil
}

// markClean says in the journal that the packs of all records below mark are
// synced: for a clone always, else only if these are all there are.
func (d *disk) markClean(mark uint64) error {
	all := d.journal.seq == mark
	switch {
	case d.clone == nil && (!all || d.isClean):
		return nil
	case d.clone == nil:
		if err := d.journal.mark(recClean); err != nil {
			return err
		}
	case all && d.isClean || !all && mark <= d.clone.marked:
		return nil // a flush has said as much
	default:
		if err := d.journal.appendMark(mark, d.synced); err != nil {
			return err
		}
		d.clone.marked = mark
	}
	d.isClean = all
	return nil
}

// syncJournal makes every record appended so far power-cut safe. A failed sync
// kills the session: the kernel may have dropped the records. It is not tried
// again, by those that wait for it neither.
func (d *disk) syncJournal() error {
	d.syncing.Lock()
	defer d.syncing.Unlock()
	if d.syncErr != nil {
		return d.syncErr
	}
	d.mu.Lock()
	if d.journal == nil {
		d.mu.Unlock()
		return nil
	}
	seq, file := d.journal.seq, d.journal.file
	done := d.synced >= seq
	d.mu.Unlock()
	if done {
		return nil
	}
	if err := file.SyncData(); err != nil {
		if d.closed() { // a file that nobody has open any more
			return nil
		}
		d.syncErr = fmt.Errorf("sync session journal: %w", err)
		d.s.kill(d.syncErr.Error())
		return d.syncErr
	}
	d.s.m.stats.journalSyncs.Add(1)
	d.mu.Lock()
	d.synced = max(d.synced, seq)
	d.mu.Unlock()
	return nil
}

func (d *disk) closed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.journal == nil
}

// touch returns a chunk with its map in memory, to be changed. It may send
// another chunk's map to the journal.
func (d *disk) touch(index uint32) (*chunk, error) {
	c := d.chunks[index]
	if c == nil {
		c = new(chunk)
		d.chunks[index] = c
	}
	d.uncopy(index)
	d.tick++
	c.used = d.tick
	if c.blocks != nil {
		return c, nil
	}
	a, err := d.load(c)
	if err != nil {
		return nil, err
	}
	c.blocks, c.spill = a, spillNone
	d.resident[index] = c
	return c, nil
}

// load returns a copy of a chunk's map, wherever it is.
func (d *disk) load(c *chunk) (*addrs, error) {
	switch {
	case c.blocks != nil:
		a := *c.blocks
		return &a, nil
	case c.spill == spillNone:
		return newAddrs(), nil
	case c.spill == spillZero:
		return new(addrs), nil
	}
	j := journal{seed: d.journal.seed, end: c.spill - recordHeaderSize}
	var h [recordHeaderSize]byte
	if err := readFull(d.journal.file, h[:], j.end); err != nil {
		return nil, fmt.Errorf("read chunk map from session journal: %w", err)
	}
	j.seq = seqOf(h[:])
	rec, err := j.next(d.journal.file)
	if err != nil {
		return nil, fmt.Errorf("read chunk map from session journal: %w", err)
	}
	_, a, err := decodeChunk(rec.payload, d.numChunks())
	return a, err
}

// trim sends the maps of the chunks longest untouched to the journal until few
// enough are in memory.
func (d *disk) trim() error {
	for len(d.resident) > d.s.m.residentChunks {
		var victim uint32
		oldest := ^uint64(0)
		for i, c := range d.resident {
			if c.used < oldest {
				victim, oldest = i, c.used
			}
		}
		if err := d.spill(victim); err != nil {
			return err
		}
	}
	return nil
}

// spill writes a chunk's map to the journal and forgets it.
func (d *disk) spill(index uint32) error {
	c := d.chunks[index]
	if err := d.foldChunk(index, c, d.logMerged); err != nil {
		return err
	}
	d.journal.begin(recChunk)
	d.journal.buf = encodeChunk(d.journal.buf, index, c.blocks)
	at, err := d.journal.finish()
	if err != nil {
		return err
	}
	d.drop(index, c, at)
	return nil
}

// drop forgets a chunk's map and patches in favour of what spill says.
func (d *disk) drop(index uint32, c *chunk, spill int64) {
	delete(d.resident, index)
	if x := d.copied(index); x != nil {
		x.addrs, x.changed = nil, true // what a new journal has must be one record again
	}
	for b := range c.patches {
		d.unpatch(c, b)
	}
	c.blocks, c.patches, c.spill = nil, nil, spill
}

// errRange is a request outside the disk; protocol servers check before.
var errRange = errors.New("request outside the disk")

func checkRange(off, n, size int64) error {
	if off < 0 || n < 0 || off > size || n > size-off {
		return fmt.Errorf("%w: %d+%d of %d bytes", errRange, off, n, size)
	}
	return nil
}
