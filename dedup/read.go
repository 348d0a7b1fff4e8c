package dedup

import (
	"errors"
	"fmt"
	"sync"
)

// Read fills dst, which is len(addrs) blocks long, with the blocks at the
// addresses. Every block is verified against its hash; one that is wrong or
// cannot be read is served from another copy of the same content if there is
// one, else Read returns a *DamageError, or what the pack's disk said, and dst is
// of no use. What lies together in a pack is read together, each frame is decoded
// once, and a large request is shared by idle cores. Safe for concurrent use.
func (s *Store) Read(addrs []Addr, dst []byte) error {
	return s.ReadWithin(addrs, 0, len(addrs), dst)
}

// ReadWithin reads the blocks at addrs[from:to] as Read does. The other addresses
// say what lies before and behind on the same disk: of a frame that holds one of
// those too, the decoded form is kept, for it is likely wanted next. Frames whose
// other blocks are nowhere near are not.
func (s *Store) ReadWithin(addrs []Addr, from, to int, dst []byte) error {
	if from < 0 || to < from || to > len(addrs) || len(dst) != (to-from)*BlockSize {
		return fmt.Errorf("dedup: Read of blocks %d to %d of %d into %d bytes", from, to, len(addrs), len(dst))
	}
	if s.closed.Load() {
		return ErrClosed
	}
	s.count.reads.Add(1)
	s.count.readBlocks.Add(uint64(to - from))
	busy := int(s.reading.Add(1))
	defer s.reading.Add(-1)
	// Decoding may spoil bytes behind what it decodes, but none behind what the
	// caller asked for.
	dst = dst[:len(dst):len(dst)]
	parts := min(s.cores-busy+1, (to-from)/shareBlocks)
	if parts < 2 {
		return s.readPart(addrs, from, to, dst)
	}
	return s.share(addrs, from, to, dst, parts)
}

// share lets idle cores do parts of a request.
func (s *Store) share(addrs []Addr, from, to int, dst []byte, parts int) error {
	errs := make([]error, parts)
	var others sync.WaitGroup
	for i := range parts {
		lo, hi := from+(to-from)*i/parts, from+(to-from)*(i+1)/parts
		work := func() {
			errs[i] = s.readPart(addrs, lo, hi, dst[(lo-from)*BlockSize:(hi-from)*BlockSize:(hi-from)*BlockSize])
		}
		if i == parts-1 {
			work()
			continue
		}
		s.reading.Add(1)
		others.Go(func() {
			defer s.reading.Add(-1)
			work()
		})
	}
	others.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// readPart reads with one plan. After any failure it goes block by block, so that
// what is wrong with one does not cost the others.
func (s *Store) readPart(addrs []Addr, from, to int, dst []byte) error {
	r := s.request()
	defer r.end()
	r.begin(addrs, from, to, dst)
	err := r.planned()
	if err == nil || errors.Is(err, ErrClosed) {
		return err
	}
	return r.oneByOne()
}

// ReadBytes fills dst, which is shorter than a block, with the bytes from off on
// of the block at an address. Otherwise it is as Read, and made for readers of a
// few KiB at a time: the block is decoded and verified once for many of them.
func (s *Store) ReadBytes(a Addr, off int, dst []byte) error {
	if off < 0 || off+len(dst) > BlockSize {
		return fmt.Errorf("dedup: ReadBytes of %d bytes at %d of a block", len(dst), off)
	}
	if s.closed.Load() {
		return ErrClosed
	}
	s.count.reads.Add(1)
	s.count.readBlocks.Add(1)
	if a == 0 {
		clear(dst)
		s.count.readZero.Add(1)
		return nil
	}
	s.reading.Add(1)
	defer s.reading.Add(-1)
	r := s.request()
	defer r.end()
	r.single, r.bytes, r.byteOff = true, true, off
	err := r.block(a, dst)
	if err == nil || errors.Is(err, ErrClosed) {
		return err
	}
	block := make([]byte, BlockSize)
	if err := s.heal(a, block, err); err != nil {
		return err
	}
	copy(dst, block[off:])
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
	r := request{s: s}
	for i, a := range addrs {
		if a == 0 {
			zero(i)
			continue
		}
		entry, err := r.locate(a)
		if err == nil && r.view.hashes[entry] == (Hash{}) {
			err = r.damage(entry, "the block and its hash are lost")
		}
		if err != nil {
			return err
		}
		f(i, &r.view, entry)
	}
	return nil
}
