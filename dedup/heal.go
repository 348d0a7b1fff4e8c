package dedup

import "errors"

// otherCopy fills dst with a block from anywhere but the given address. It is
// found as a dedup hit is: among the blocks of open packs, or through the
// index, which leads to the copy stored last.
func (s *Store) otherCopy(h Hash, not Addr, dst []byte) bool {
	if h == (Hash{}) {
		return false
	}
	if a := s.recent.address(h); a != 0 && a != not && s.copyFrom(a, h, dst) {
		return true
	}
	if s.index == nil {
		return false
	}
	a, err := s.index.lookup(&h)
	if err != nil && !errors.Is(err, ErrClosed) {
		s.indexError(err)
	}
	return err == nil && a != 0 && a != not && s.copyFrom(a, h, dst)
}

// copyFrom reads the block at an address if it has the hash.
func (s *Store) copyFrom(a Addr, h Hash, dst []byte) bool {
	sp := s.spans.Get().(*span)
	defer s.spans.Put(sp)
	sp.view, sp.single = view{}, true
	entry, err := sp.locate(a)
	if err != nil || sp.view.hashes[entry] != h {
		return false
	}
	n, err := sp.read([]Addr{a}, dst[:BlockSize:BlockSize])
	return err == nil && n == 1
}

// heal serves a block that cannot be read at its address from another copy of
// the same content. bad is why it cannot; it is returned when there is none.
func (s *Store) heal(a Addr, dst []byte, bad error) error {
	v, err := s.view(a.Pack())
	if err != nil {
		return bad
	}
	entry := v.find(a.Slot())
	if entry < 0 || !s.otherCopy(v.hashes[entry], a, dst) {
		return bad
	}
	s.count.healedReads.Add(1)
	return nil
}

// readOrHeal is read, but blocks that cannot be read at their addresses are
// served from other copies. What is wrong with one must not cost the others:
// after a failure those before it are read alone, then it is healed, then the
// rest goes on.
func (sp *span) readOrHeal(addrs []Addr, dst []byte) (int, error) {
	n, err := sp.read(addrs, dst)
	if err == nil || errors.Is(err, ErrClosed) {
		return n, err
	}
	at := 0
	var d *DamageError
	if errors.As(err, &d) && d.Slot != noSlot {
		a := MakeAddr(d.Pack, uint16(d.Slot))
		for at = range addrs {
			if addrs[at] == a || addrs[at] == 0 {
				break
			}
		}
		if addrs[at] != a {
			return 0, err
		}
	}
	if at > 0 {
		return sp.readOrHeal(addrs[:at], dst[:at*BlockSize:at*BlockSize])
	}
	if err = sp.readOne(addrs[0], dst[:BlockSize:BlockSize], err); err == nil {
		return 1, nil
	}
	return 1, sp.s.heal(addrs[0], dst[:BlockSize:BlockSize], err)
}

// readOne tries a block alone after it could not be read with others: those may
// be what is damaged, of its own frame too. bad is what was wrong with all.
func (sp *span) readOne(a Addr, dst []byte, bad error) error {
	if sp.single {
		return bad
	}
	sp.single, sp.told = true, isDamage(bad)
	defer func() { sp.single, sp.told = false, false }()
	_, err := sp.read([]Addr{a}, dst)
	return err
}
