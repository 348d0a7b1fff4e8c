package dedup

import (
	"errors"
	"fmt"
)

// StoredBytes sets out[i] to the bytes the block at addrs[i] takes on disk: its
// share of its frame, header included, divided evenly and the remainder's bytes
// given to the first blocks. The zero address takes none, and neither do blocks
// that are not there or were lost; a pack that cannot be read just now is an
// error. Neighbouring addresses of one pack are cheapest.
func (s *Store) StoredBytes(addrs []Addr, out []uint32) error {
	if len(out) != len(addrs) {
		return fmt.Errorf("dedup: StoredBytes of %d blocks into %d", len(addrs), len(out))
	}
	if s.closed.Load() {
		return ErrClosed
	}
	var v view
	var have uint64 // the pack v is of, also when it has none
	for i, a := range addrs {
		out[i] = 0
		if a == 0 {
			continue
		}
		if a.Pack() != have {
			var err error
			if v, err = s.view(a.Pack()); err != nil && !errors.Is(err, ErrUnknownAddr) && !isDamage(err) {
				return err
			}
			have = a.Pack()
		}
		if v.toc != nil {
			out[i] = v.toc.stored(a.Slot())
		}
	}
	return nil
}

// stored is a slot's share of its frame.
func (t *toc) stored(slot uint16) uint32 {
	i := t.find(slot)
	if i < 0 || t.slots[i].flags&slotLost != 0 {
		return 0
	}
	f := &t.frames[t.slots[i].frame]
	size, n := uint32(f.end()-int64(f.offset)), uint32(f.count)
	share := size / n
	if uint32(t.slots[i].pos) < size%n {
		share++
	}
	return share
}
