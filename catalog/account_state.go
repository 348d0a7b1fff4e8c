package catalog

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// accountState says which pages count and what they sum up to.
type accountState struct {
	epoch byte   // of the pages that count: 0 or 1; those of the other are leftovers
	live  uint64 // slots with references, in all packs
}

func (s *accountState) encode() []byte {
	return binary.AppendUvarint([]byte{s.epoch}, s.live)
}

func decodeAccountState(b []byte) (s accountState, err error) {
	d := decoder{b: b}
	s.epoch, s.live = byte(d.size(1)), d.uvarint()
	return s, d.end()
}

// getAccountState of a catalog that never had any is the zero state.
func getAccountState(r pebble.Reader) (s accountState, err error) {
	b, err := get(r, []byte{keyAccounts})
	if errors.Is(err, pebble.ErrNotFound) {
		return s, nil
	}
	if err != nil {
		return s, unreadable("the state of the accounts", err)
	}
	if s, err = decodeAccountState(b); err != nil {
		return s, fmt.Errorf("%w: their state cannot be decoded", ErrAccounts)
	}
	return s, nil
}
