package dedup

// PackVersion is a number that is another one whenever StoredBytes may answer
// differently for a block of the pack; for pack 0, whenever it may for any block
// there was before. It is cheap: nothing is read from the tier.
func (s *Store) PackVersion(pack uint64) uint64 {
	if pack == 0 {
		return s.swaps.Load() + s.health.changes.Load()
	}
	gen, ok := s.packs.gen(pack)
	if !ok {
		return 0
	}
	v := (uint64(gen) + 1) << 2
	state := s.health.state(pack)
	if state.missing {
		v |= 1
	}
	if state.unreadable {
		v |= 2
	}
	return v
}
