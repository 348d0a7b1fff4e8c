package nbdclient

import "fmt"

// Extent is a run of bytes that are all zero, or may not be.
type Extent struct {
	Offset int64
	Length int64
	Zero   bool
}

// Extents calls yield for the extents of the whole export, in order; neighbours
// differ in Zero. It stops at the first error.
func (c *Conn) Extents(yield func(Extent) error) error {
	var open Extent
	for off := int64(0); off < c.size; {
		n := min(c.size-off, statusLengthMax)
		k := &call{status: n}
		if err := c.do(cmdStatus, off, uint32(n), k); err != nil {
			return fmt.Errorf("block status of %d bytes at %d: %w", n, off, err)
		}
		for _, e := range k.extents {
			e.Length = min(e.Length, c.size-off)
			if e.Length == 0 {
				break
			}
			if open.Length > 0 && open.Zero != e.Zero {
				if err := yield(open); err != nil {
					return err
				}
				open = Extent{Offset: off}
			}
			open.Zero = e.Zero
			open.Length += e.Length
			off += e.Length
		}
	}
	if open.Length == 0 {
		return nil
	}
	return yield(open)
}
