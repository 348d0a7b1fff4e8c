package imports

import (
	"fmt"
	"io"
)

// copyImage copies the disk that layers make, as disk 0, unit by unit: zeros are
// told in as many whole units as there are, the rest is read by many at once.
func copyImage(out *output, layers []layer) error {
	u := unit{out: out, size: layers[0].Size()}
	for p, err := range pieces(layers) {
		if err == nil {
			err = u.add(p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unit gathers the pieces of a unit of the disk.
type unit struct {
	out    *output
	size   int64 // of the disk
	begin  int64
	pieces []piece // those that are not zeros
}

func (u *unit) add(p piece) error {
	for p.n > 0 {
		end := min(p.off-p.off%unitSize+unitSize, u.size)
		if p.layer == nil && p.off == u.begin && (p.off+p.n >= end) {
			end = p.off + p.n
			if end < u.size {
				end -= end % unitSize
			}
			if err := u.out.zero(0, p.off, end-p.off); err != nil {
				return err
			}
			u.begin = end
			p = p.from(end)
			continue
		}
		if p.layer != nil {
			u.pieces = append(u.pieces, piece{p.layer, p.off, min(p.n, end-p.off)})
		}
		if p.off+p.n >= end {
			if err := u.flush(end); err != nil {
				return err
			}
		}
		p = p.from(end)
	}
	return nil
}

// from is what of a piece lies at off and after it.
func (p piece) from(off int64) piece {
	n := max(p.off+p.n-off, 0)
	return piece{p.layer, off, n}
}

// flush has the unit read and written.
func (u *unit) flush(end int64) error {
	begin, list := u.begin, u.pieces
	u.begin, u.pieces = end, nil
	if len(list) == 0 {
		return u.out.zero(0, begin, end-begin)
	}
	b, err := u.out.buffer()
	if err != nil {
		return err
	}
	u.out.start(b, 0, end-begin, func() error {
		b := b[:end-begin]
		next := begin
		for _, p := range list {
			clear(b[next-begin : p.off-begin])
			next = p.off + p.n
			if err := readFull(p.layer, b[p.off-begin:next-begin], p.off); err != nil {
				return err
			}
		}
		clear(b[next-begin:])
		return u.out.store(0, begin, b)
	})
	return nil
}

func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %d bytes at %d: %w", len(p), off, err)
}
