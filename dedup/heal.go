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
	r := s.request()
	defer r.end()
	entry, err := r.locate(a)
	if err != nil || r.view.hashes[entry] != h {
		return false
	}
	r.single = true
	return r.block(a, dst[:BlockSize]) == nil
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
