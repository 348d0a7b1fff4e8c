package catalog

import (
	"cmp"
	"slices"

	"github.com/strongroom-backup/strongroom/dedup"
)

// A timeline says how a disk goes from image to image: which chunk is at which
// place from which image on. It holds a window of places, and the records of
// the chunks there, in bounded memory.
type timeline struct {
	q        *question
	from, to uint64 // the window: places on the disk
	changes  []placeChange
	limit    int // of changes

	numbers []ChunkNo // of chunks in the window, ascending
	ends    []int     // of their records in records
	records []byte
	budget  int // of records, in bytes

	now   [dedup.ChunkBlocks]dedup.Addr // of one place, block by block
	since [dedup.ChunkBlocks]uint32     // the image from which on
	next  [dedup.ChunkBlocks]dedup.Addr
}

// placeChange puts a chunk at a place from an image on.
type placeChange struct {
	place uint64
	image uint32
	no    ChunkNo
}

// maxPlace is behind every place on a disk.
const maxPlace = maxChunks

// disk calls emit for every block of some images of a disk, in runs: count
// slots from addr on are there from image first to image last.
func (t *timeline) disk(first, end int, emit func(addr dedup.Addr, count, first, last uint32)) error {
	for t.from = 0; t.from < maxPlace; t.from = t.to {
		t.to, t.changes = maxPlace, t.changes[:0]
		if err := t.gather(first, end); err != nil {
			return err
		}
		if err := t.load(); err != nil {
			return err
		}
		for rest := t.changes; len(rest) > 0; {
			n := 1
			for n < len(rest) && rest[n].place == rest[0].place {
				n++
			}
			if err := t.play(rest[:n], uint32(end-1), emit); err != nil {
				return err
			}
			rest = rest[n:]
		}
	}
	return nil
}

// gather collects the changes of the window.
func (t *timeline) gather(first, end int) error {
	err := t.q.eachDiff(first, end, func(image int, place uint64, _, now ChunkNo, n uint64) {
		for i := max(place, t.from); i < min(place+n, t.to); i++ {
			c := placeChange{place: i, image: uint32(image)}
			if now != 0 {
				c.no = now + ChunkNo(i-place)
			}
			t.changes = append(t.changes, c)
			if len(t.changes) >= t.limit {
				t.shrink()
			}
		}
	})
	t.sort()
	return err
}

func (t *timeline) sort() {
	slices.SortFunc(t.changes, func(a, b placeChange) int {
		return cmp.Or(cmp.Compare(a.place, b.place), cmp.Compare(a.image, b.image))
	})
}

// shrink draws in the window's end until half of the changes are left, or only
// those of one place.
func (t *timeline) shrink() {
	t.sort()
	t.to = max(t.changes[len(t.changes)/2].place, t.changes[0].place+1)
	k, _ := slices.BinarySearchFunc(t.changes, t.to, func(c placeChange, to uint64) int { return cmp.Compare(c.place, to) })
	if t.changes = t.changes[:k]; len(t.changes) > t.limit/4*3 {
		t.limit *= 2
	}
}

// load reads the records of the window's chunks, in order of their numbers. If
// they are too much, the window is drawn in.
func (t *timeline) load() error {
	for {
		t.numbers = t.numbers[:0]
		for _, c := range t.changes {
			if c.no != 0 {
				t.numbers = append(t.numbers, c.no)
			}
		}
		slices.Sort(t.numbers)
		t.numbers = slices.Compact(t.numbers)
		t.ends, t.records = t.ends[:0], t.records[:0]
		for _, no := range t.numbers {
			record, err := t.q.record(no)
			if err != nil {
				return err
			}
			t.records = append(t.records, record...)
			t.ends = append(t.ends, len(t.records))
			if len(t.records) > t.budget {
				break
			}
		}
		one := len(t.changes) == 0 || t.changes[len(t.changes)-1].place == t.changes[0].place
		if len(t.ends) == len(t.numbers) {
			return nil
		}
		if one {
			t.budget *= 2
			continue
		}
		t.shrink()
	}
}

// play emits what was at one place, whose changes are given, up to image last.
func (t *timeline) play(changes []placeChange, last uint32, emit func(addr dedup.Addr, count, first, last uint32)) error {
	t.now = [dedup.ChunkBlocks]dedup.Addr{}
	for _, c := range changes {
		if err := t.blocks(c.no); err != nil {
			return err
		}
		if c.image > 0 {
			t.emit(c.image-1, &t.next, emit)
		}
		for b := range t.next {
			if t.now[b] != t.next[b] {
				t.now[b], t.since[b] = t.next[b], c.image
			}
		}
	}
	t.emit(last, &[dedup.ChunkBlocks]dedup.Addr{}, emit)
	return nil
}

// emit emits the blocks that are not in next.
func (t *timeline) emit(last uint32, next *[dedup.ChunkBlocks]dedup.Addr, emit func(addr dedup.Addr, count, first, last uint32)) {
	for b := 0; b < len(t.now); {
		a, since := t.now[b], t.since[b]
		if a == 0 || a == next[b] {
			b++
			continue
		}
		n := 1
		for b+n < len(t.now) && t.now[b+n] == a+dedup.Addr(n) && t.since[b+n] == since && next[b+n] != t.now[b+n] && (a+dedup.Addr(n)).Slot() != 0 {
			n++
		}
		emit(a, uint32(n), since, last)
		b += n
	}
}

// blocks sets next to the blocks of a chunk.
func (t *timeline) blocks(no ChunkNo) error {
	t.next = [dedup.ChunkBlocks]dedup.Addr{}
	if no == 0 {
		return nil
	}
	i, _ := slices.BinarySearch(t.numbers, no)
	start := 0
	if i > 0 {
		start = t.ends[i-1]
	}
	if err := t.q.decode(no, t.records[start:t.ends[i]]); err != nil {
		return err
	}
	for _, r := range t.q.chunk.Runs {
		for i := range dedup.Addr(r.Count) {
			t.next[uint64(r.Start)+uint64(i)] = r.Addr + i
		}
	}
	return nil
}
