package volume

import (
	"fmt"
	"maps"
	"slices"

	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/mutant"
)

// Roots calls mark for the addresses in the maps of every session that may still
// become a point: those that nobody but the session leads to. Its parents are
// points, which are not forgotten while the session is open.
//
// A collection that called dedup's BeginCollection, then Barrier, then Roots and
// only then looks at the catalog's points, misses nothing:
//
//   - What an operation stored before the beginning is in its session's map when
//     Barrier returns, and Roots finds it there.
//
//   - What is stored after the beginning, a hit on an old block included, is
//     marked by dedup itself, so it does not matter whether Roots comes to that
//     place of the map before or after.
//
//   - A map changes only by such operations: an address that Roots does not find
//     at its place was either overwritten, so nobody needs it, or moved between
//     memory and journal, which happens under the same lock.
//
//   - A session that is not looked at, or whose map is gone in the middle, has
//     either ended without a point or become one before; since the points are
//     looked at afterwards, that one is among them. Looked at in the other order,
//     a session could become a point between the two and be missed by both.
//
//   - A chunk record that a commit makes has no addresses but the map's and the
//     parent's.
//
//   - CopyBlocks takes addresses from a file's map into a disk's. If Roots has
//     passed that place of the disk before, or never comes to the disk, because it
//     was added meanwhile, it finds the address in the file: what is in the file's
//     map stays there as long as the disk does, since copying forbids all changes
//     of the file first, and keeps the file in the session though its names go. A
//     file that Roots does not come to was made after the beginning, and so was
//     all it has. A block that was written in part is stored by CopyBlocks itself,
//     like any other. A commit publishes disk and file.
//
// A disk of a clone needs more than its map: after a power cut it is again what it
// was when it was flushed last. What it needs is its map and what is retired, which
// is everything that records not covered by a flush have overwritten. Both change
// under the disk's lock, and Roots takes all of the map first and what is retired
// then:
//
//   - An address goes from the map to what is retired in the step that overwrites
//     it. One that Roots does not find at its place any more was retired before,
//     and is found there afterwards, unless a flush has covered the record by then;
//     then no power cut brings it back. One that is retired later was found in the
//     map. Nothing of a clone's map is dropped otherwise: no chunk is ever taken
//     out, and merging the raw bytes of a block overwrites its address like a write.
//
//   - A flush forgets what was retired only when its mark is on the disk. With a
//     mark n it forgets what records below n have overwritten, and the disk never
//     comes back to before n.
//
//   - A map that was retired as a whole is one in the journal, whose place is kept.
//     It is read afterwards, one at a time. If the journal was written anew
//     meanwhile, which flushes everything, nothing of the list is needed.
//
//   - Resuming a clone brings back what was retired, in disks that take the place
//     of others. What these have, the others had, in the map or retired, and they
//     are there until the new ones are. Roots begins again when the disks are not
//     those it began with: what it has not found in the old ones, since they closed
//     under it, it finds in the new ones.
//
//   - A start reads the journal, and so retires again what its records had retired,
//     as far as no mark covers them. What is stale is read up to its mark alone.
//
// A read finds its addresses in a map and uses them without a lock; one that the
// map loses meanwhile may be collected. So Barrier is called again before
// anything is freed: it waits for such reads. Reads that begin later find only
// what was marked.
//
// An error means that marks are missing.
func (m *Manager) Roots(mark func(a dedup.Addr, n int)) error {
	for _, s := range m.remembered() {
		if err := s.roots(mark); err != nil {
			return err
		}
	}
	return nil
}

// remembered are all sessions.
func (m *Manager) remembered() []*session {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.sessions))
}

func (s *session) roots(mark func(dedup.Addr, int)) error {
	if !s.undecided() || mutant.On("volume/no-roots") {
		return nil
	}
	for {
		list := s.maps()
		for _, d := range list {
			// A clone that is dead only waits to be discarded; what can be read is kept.
			if err := d.roots(mark); err != nil && s.state() != Dead {
				return fmt.Errorf("%s of session %s of VM %s: %w", d.what(), s.file.ID, s.file.VM, err)
			}
		}
		if !s.file.Clone || slices.Equal(list, s.maps()) {
			return nil
		}
	}
}

// roots marks what a disk has, and then what it has overwritten, in this order.
func (d *disk) roots(mark func(dedup.Addr, int)) error {
	for _, index := range d.touched() {
		if err := d.rootsOf(index, mark); err != nil {
			return err
		}
	}
	return d.rootsOfRetired(mark)
}

// touched are the chunks the session knows something of.
func (d *disk) touched() []uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Keys(d.chunks))
}

// rootsOf marks one chunk's map, in memory or in the journal. The lock is held
// for one chunk at a time, so that writes go on.
func (d *disk) rootsOf(index uint32, mark func(dedup.Addr, int)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.chunks[index]
	if c == nil || c.spill == spillZero { // the session has ended; nothing but zeros
		return nil
	}
	a := c.blocks
	if a == nil {
		if mutant.On("volume/no-roots-in-journal") {
			return nil
		}
		var err error
		if a, err = d.load(c); err != nil {
			return err
		}
	}
	markAll(a, mark)
	return nil
}
