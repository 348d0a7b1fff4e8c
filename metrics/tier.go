package metrics

import "github.com/strongroom-backup/strongroom/dedup"

var (
	tierCapacity = gauge("tier_capacity_bytes", "Size of the tier's file system.", "tier")
	tierFree     = gauge("tier_free_bytes", "Bytes that can still be written to the tier's file system, the reserve included.", "tier")
	tierReserve  = gauge("tier_reserve_bytes", "Bytes held back for deleting and committing (store.reserve).", "tier")
	packBytes    = gauge("tier_pack_bytes", "Bytes of all pack files on the tier, those that are to be removed soon included.", "tier")
)

// firstTier is the name of the tier every store has.
const firstTier = "tier0"

// collectTier leaves out what the medium cannot tell.
func (s Sources) collectTier(to sink, blocks dedup.Stats) {
	if u, err := s.Tier(); err == nil {
		put(to, tierCapacity, u.Total, firstTier)
		put(to, tierFree, u.Free, firstTier)
	}
	put(to, tierReserve, s.Reserve, firstTier)
	put(to, packBytes, blocks.PackBytes, firstTier)
}
