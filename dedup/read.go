package dedup

import "fmt"

// Read fills dst, which is len(addrs) blocks long, with the blocks at the
// addresses. Every block is verified against its hash; one that is wrong or
// cannot be read is served from another copy of the same content if there is
// one, else Read returns a *DamageError, or what the pack's disk said, and dst is
// of no use. Neighbouring addresses are read
// and decoded together. Safe for concurrent use.
func (s *Store) Read(addrs []Addr, dst []byte) error {
	if len(dst) != len(addrs)*BlockSize {
		return fmt.Errorf("dedup: Read of %d blocks into %d bytes", len(addrs), len(dst))
	}
	if s.closed.Load() {
		return ErrClosed
	}
	s.count.reads.Add(1)
	s.count.readBlocks.Add(uint64(len(addrs)))
	sp := s.spans.Get().(*span)
	defer s.spans.Put(sp)
	sp.view = view{}
	sp.single = len(addrs) == 1
	// Decoding may spoil bytes behind a piece: those are filled later, and none
	// lie behind what the caller asked for.
	dst = dst[:len(dst):len(dst)]
	for i := 0; i < len(addrs); {
		n := 0
		for i+n < len(addrs) && addrs[i+n] == 0 {
			n++
		}
		if n > 0 {
			clear(dst[i*BlockSize : (i+n)*BlockSize])
			s.count.readZero.Add(uint64(n))
		} else {
			var err error
			if n, err = sp.readOrHeal(addrs[i:], dst[i*BlockSize:]); err != nil {
				return err
			}
		}
		i += n
	}
	return nil
}

// Hashes sets out[i] to the hash of the block at addrs[i], from the packs'
// tables of contents.
func (s *Store) Hashes(addrs []Addr, out []Hash) error {
	if len(out) != len(addrs) {
		return fmt.Errorf("dedup: Hashes of %d blocks into %d", len(addrs), len(out))
	}
	return s.eachEntry(addrs, func(i int, v *view, entry int) { out[i] = v.hashes[entry] }, func(i int) { out[i] = Hash{} })
}

// Have returns nil when every address is in a pack of this store whose frames
// were found whole, else an error that names the first that is not.
func (s *Store) Have(addrs []Addr) error {
	bad := -1
	err := s.eachEntry(addrs, func(i int, v *view, entry int) {
		if bad < 0 && !v.trusts(entry) {
			bad = i
		}
	}, func(int) {})
	if err == nil && bad >= 0 {
		return fmt.Errorf("block %v is damaged or was never durable: %w", addrs[bad], ErrDamaged)
	}
	return err
}

func (s *Store) eachEntry(addrs []Addr, f func(i int, v *view, entry int), zero func(i int)) error {
	if s.closed.Load() {
		return ErrClosed
	}
	sp := span{s: s}
	for i, a := range addrs {
		if a == 0 {
			zero(i)
			continue
		}
		entry, err := sp.locate(a)
		if err == nil && sp.view.hashes[entry] == (Hash{}) {
			err = sp.damage(entry, "the block and its hash are lost")
		}
		if err != nil {
			return err
		}
		f(i, &sp.view, entry)
	}
	return nil
}
