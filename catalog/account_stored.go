package catalog

import (
	"fmt"

	"github.com/strongroom-backup/strongroom/dedup"
)

// storedBytes sets out to what blocks of a pack take in it.
func (c *Catalog) storedBytes(pack uint64, addrs []dedup.Addr, out []uint32) error {
	if c.o.StoredBytes == nil {
		clear(out)
		return nil
	}
	if err := c.o.StoredBytes(addrs, out); err != nil {
		return fmt.Errorf("find out what blocks of pack %d take: %w", pack, err)
	}
	return nil
}

// packVersion is another number whenever storedBytes may answer differently for
// blocks of the pack, for any block if pack is 0. ok is false when that is not
// known.
func (c *Catalog) packVersion(pack uint64) (version uint64, ok bool) {
	switch {
	case c.o.StoredBytes == nil:
		return 0, true
	case c.o.PackVersion == nil:
		return 0, false
	}
	return c.o.PackVersion(pack), true
}
