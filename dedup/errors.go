package dedup

import (
	"errors"
	"fmt"
)

// Sentinels, wrapped in errors that name the pack.
var (
	// ErrDamaged is under every *DamageError.
	ErrDamaged = errors.New("damaged data")
	// ErrUnknownAddr means that no pack of the store has the address.
	ErrUnknownAddr = errors.New("no such block in the store")
	// ErrClosed is returned by a Store or Writer after its Close.
	ErrClosed = errors.New("store is closed")
	// ErrNewerFormat is returned for a pack a later version wrote.
	ErrNewerFormat = errors.New("pack was written by a newer version")
)

// errForeign is under the error about a pack that another store wrote.
var errForeign = errors.New("not this store's")

// noSlot is the Slot of a DamageError that concerns a whole pack.
const noSlot = -1

// DamageError says which stored bytes are wrong. Nothing of them is served.
type DamageError struct {
	Pack   uint64
	Gen    uint32
	Slot   int   // -1 when the pack's own structure is damaged
	Offset int64 // of the frame or structure in the pack file, bytes
	Reason string
}

func (e *DamageError) Error() string {
	where := fmt.Sprintf("pack %d generation %d", e.Pack, e.Gen)
	if e.Slot != noSlot {
		where += fmt.Sprintf(" slot %d", e.Slot)
	}
	return fmt.Sprintf("damaged data in %s, offset %d: %s", where, e.Offset, e.Reason)
}

// Is makes errors.Is(err, ErrDamaged) true.
func (e *DamageError) Is(target error) bool { return target == ErrDamaged }
