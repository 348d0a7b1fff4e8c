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
	err := c.Status(Allocation, 0, c.size, func(off, n int64, flags uint32) error {
		zero := flags&Zero != 0
		if open.Length > 0 && open.Zero != zero {
			if err := yield(open); err != nil {
				return err
			}
			open = Extent{Offset: off}
		}
		open.Zero = zero
		open.Length += n
		return nil
	})
	if err != nil || open.Length == 0 {
		return err
	}
	return yield(open)
}

// Status calls yield for the extents of [off, off+n) in a context the connection
// has selected, in order; neighbours differ in flags. It stops at the first
// error.
func (c *Conn) Status(context string, off, n int64, yield func(off, n int64, flags uint32) error) error {
	id, ok := c.contexts[context]
	if !ok {
		return fmt.Errorf("block status: context %q was not selected when the export was opened", context)
	}
	if err := c.check("block status", off, n); err != nil {
		return err
	}
	start, open := off, extent{}
	for end := off + n; off < end; {
		list, err := c.status(id, off, min(end-off, statusLengthMax))
		if err != nil {
			return err
		}
		for _, e := range list {
			e.length = min(e.length, end-off)
			if e.length == 0 {
				break
			}
			if open.length > 0 && open.flags != e.flags {
				if err := yield(start, open.length, open.flags); err != nil {
					return err
				}
				start, open = off, extent{}
			}
			open.flags = e.flags
			open.length += e.length
			off += e.length
		}
	}
	if open.length == 0 {
		return nil
	}
	return yield(start, open.length, open.flags)
}

// status asks once; the answer may be about less, or about more.
func (c *Conn) status(id uint32, off, n int64) ([]extent, error) {
	k := &call{kind: cmdStatus, context: id}
	if err := c.do(off, uint32(n), k); err != nil {
		return nil, fmt.Errorf("block status of %d bytes at %d: %w", n, off, err)
	}
	return k.extents, nil
}
