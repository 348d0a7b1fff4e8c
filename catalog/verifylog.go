package catalog

import (
	"fmt"

	"github.com/strongroom-backup/strongroom/catalog/metalog"
)

// VerifyLog reads the whole metadata log, which nobody else does until the
// database has to be rebuilt from it. Damage matches ErrCorrupt, and the error
// says where it is. Commits go on meanwhile.
func (c *Catalog) VerifyLog() error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.leave()
	b, err := get(c.db, []byte{keyWatermark})
	if err != nil {
		return unreadable("the watermark", err)
	}
	mark, err := decodeWatermark(b)
	if err != nil {
		return damaged("the watermark", err)
	}
	o := metalog.Options{FS: c.o.FS, Dir: c.o.MetaDir, StoreID: c.o.StoreID, Domain: c.o.Domain}
	if err := metalog.Verify(o, mark.seq); err != nil {
		return fmt.Errorf("verify the metadata log: %w", err)
	}
	return nil
}
