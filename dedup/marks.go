package dedup

import (
	"math/bits"
	"sync/atomic"
)

// marks is one bit per slot of every candidate, all in one slice. Setting a bit
// takes no lock; the table that leads from a pack to its bits never changes.
type marks struct {
	pages map[uint64]*markPage // pack / markPagePacks → where its candidates are
	cands []candidate
	words []atomic.Uint64
}

// candidate is a pack a collection may change.
type candidate struct {
	pack  uint64
	first int    // its bits begin at words[first]
	next  uint16 // slots are below
	slots uint16 // it has so many
	lost  bool   // the tier has not got it
	bytes int64  // of frames
	holes []byte // as in packRecord
	// condemning: nothing in it is a hit until dead is there; then what dead has
	// is not.
	condemning atomic.Bool
	dead       atomic.Pointer[[]uint64]
}

// markPage leads from a pack to its place in cands plus one. Looking a pack up
// in it costs one miss of the processor's cache, in a map of all packs several.
type markPage [markPagePacks]int32

const markPagePacks = 4096

func newMarks() *marks { return &marks{pages: make(map[uint64]*markPage)} }

// add enters a candidate. All are entered before the first bit is set.
func (m *marks) add(pack uint64, r *packRecord, lost bool) {
	bytes := r.bytes
	if lost {
		bytes = 0 // nothing to gain
	}
	m.cands = append(m.cands, candidate{
		pack: pack, next: uint16(r.next), slots: uint16(r.slots), bytes: bytes, holes: append([]byte(nil), r.holes...), lost: lost,
	})
	p := m.pages[pack/markPagePacks]
	if p == nil {
		p = new(markPage)
		m.pages[pack/markPagePacks] = p
	}
	p[pack%markPagePacks] = int32(len(m.cands))
}

// begin makes the bits, all unset.
func (m *marks) begin() {
	n := 0
	for i := range m.cands {
		m.cands[i].first = n
		n += words(int(m.cands[i].next))
	}
	m.words = make([]atomic.Uint64, n)
}

// words is how many words n bits take.
func words(n int) int { return (n + 63) / 64 }

// of returns the candidate of a pack, or nil.
func (m *marks) of(pack uint64) *candidate {
	p := m.pages[pack/markPagePacks]
	if p == nil || p[pack%markPagePacks] == 0 {
		return nil
	}
	return &m.cands[p[pack%markPagePacks]-1]
}

// set sets the bits of the slots from ≤ slot < to and returns how many of them
// the candidate has not got. A bit that is set already is only read: chunk
// records share most of their slots, and reading does not take the word from
// other cores.
func (m *marks) set(c *candidate, from, to int) (unknown int) {
	if to > int(c.next) {
		unknown = to - max(from, int(c.next))
		to = int(c.next)
	}
	for at := from; at < to; {
		end := min(to, at|63+1)
		mask := ^uint64(0) << (at & 63) & (^uint64(0) >> (63 - (end-1)&63))
		if w := &m.words[c.first+at>>6]; w.Load()&mask != mask {
			w.Or(mask)
		}
		at = end
	}
	return unknown
}

// bits copies a candidate's marks.
func (m *marks) bits(c *candidate) []uint64 {
	out := make([]uint64, words(int(c.next)))
	for i := range out {
		out[i] = m.words[c.first+i].Load()
	}
	return out
}

// exists returns the slots a candidate has, in the form of bits.
func (c *candidate) exists() []uint64 {
	out := make([]uint64, words(int(c.next)))
	for i := range out {
		out[i] = ^uint64(0)
	}
	if n := c.next & 63; n != 0 {
		out[len(out)-1] = 1<<n - 1
	}
	if c.holes == nil {
		return out
	}
	clear(out)
	for i, b := range c.holes {
		out[i/8] |= uint64(b) << (8 * (i % 8))
	}
	return out
}

func countBits(b []uint64) (n int) {
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n
}

func hasBit(b []uint64, i uint16) bool { return b[i>>6]>>(i&63)&1 != 0 }
