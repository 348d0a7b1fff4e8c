package dedup

import "github.com/strongroom-backup/strongroom/tier"

// Events are called when something happens that an operator should hear of.
// Each may be nil. They are called on the engine's goroutines, some while a
// lane is locked: they must return soon and must not call the Store.
type Events struct {
	// PackSealed: a pack is full, durable and in the index.
	PackSealed func(id tier.ID, slots int, bytes int64)
	// PackGivenUp: an fdatasync failed; slots below durable are safe.
	PackGivenUp func(id tier.ID, durable int, err error)
	// PackRecovered: Open found a pack without a footer and sealed it; torn
	// bytes lay behind its last good frame.
	PackRecovered func(id tier.ID, slots int, torn int64)
	// PackMissing: the index knows a pack that the tier no longer has.
	PackMissing func(pack uint64, gen uint32)
	// Damage: stored bytes are wrong.
	Damage func(err *DamageError)
	// IndexRebuilt: the block index was of no use and is built anew by Open.
	IndexRebuilt func(reason error)
	// IndexError: a look-up in the block index failed; blocks it would have
	// found are stored again.
	IndexError func(err error)
	// SealFailed: the end of a pack could not be written. It is tried again
	// before the next pack is made.
	SealFailed func(id tier.ID, err error)
}

func (e *Events) damage(err *DamageError) {
	if e.Damage != nil {
		e.Damage(err)
	}
}
