package nbdclient

import "fmt"

// WriteAt writes p, of at most WriteMax bytes, or fails; what then is on the
// export is undefined. It does not make anything durable, Flush does. p is not
// changed and not kept.
func (c *Conn) WriteAt(p []byte, off int64) (int, error) {
	if len(p) > WriteMax {
		return 0, fmt.Errorf("write of %d bytes at %d: more than %d at once", len(p), off, WriteMax)
	}
	if err := c.checkWrite("write", off, int64(len(p))); err != nil || len(p) == 0 {
		return 0, err
	}
	if err := c.do(off, uint32(len(p)), &call{kind: cmdWrite, payload: p}); err != nil {
		return 0, fmt.Errorf("write %d bytes at %d: %w", len(p), off, err)
	}
	return len(p), nil
}

func (c *Conn) checkWrite(what string, off, n int64) error {
	if c.ReadOnly() {
		return fmt.Errorf("%s of %d bytes at %d: the export is read-only", what, n, off)
	}
	return c.check(what, off, n)
}

// Zero makes a range read as zeros, in as many requests as it takes.
func (c *Conn) Zero(off, n int64) error {
	if err := c.checkWrite("zeroing", off, n); err != nil {
		return err
	}
	if c.flags&exportWriteZeroes == 0 {
		return c.writeZeros(off, n)
	}
	for n > 0 {
		part := min(n, zeroLengthMax)
		if err := c.do(off, uint32(part), &call{kind: cmdWriteZeroes}); err != nil {
			return fmt.Errorf("zero %d bytes at %d: %w", part, off, err)
		}
		off, n = off+part, n-part
	}
	return nil
}

var zeros [zeroBuffer]byte

func (c *Conn) writeZeros(off, n int64) error {
	for n > 0 {
		part := min(n, zeroBuffer)
		if _, err := c.WriteAt(zeros[:part], off); err != nil {
			return err
		}
		off, n = off+part, n-part
	}
	return nil
}

// Flush returns when every write that had returned, over any connection of the
// client's to a server that keeps the protocol's promise, is durable. It does
// nothing where the server has no FLUSH.
func (c *Conn) Flush() error {
	if c.flags&exportFlush == 0 {
		return nil
	}
	if err := c.do(0, 0, &call{kind: cmdFlush}); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return nil
}
