package life

import (
	"errors"
	"fmt"
	"slices"

	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/volume"
)

// clone is a clone of a point. Its disks' hint is not used.
type clone struct {
	id, base string
	blob     string
	disks    []*disk
	flushed  []content // by disk, when it was flushed last
	clean    bool      // nothing was written since
}

// flush notes that everything is flushed.
func (c *clone) flush() {
	c.flushed, c.clean = nil, true
	for _, d := range c.disks {
		c.flushed = append(c.flushed, d.want.clone())
	}
}

// anyClone is a clone; one is made when there is none.
func (h *history) anyClone() (*clone, error) {
	if len(h.clones) == 0 {
		if err := h.makeClone(); err != nil || len(h.clones) == 0 {
			return nil, err
		}
	}
	return h.clones[h.rng.IntN(len(h.clones))], nil
}

// makeClone clones a point, if there are not enough clones.
func (h *history) makeClone() error {
	p := h.anyPoint()
	if p == nil || p.trashed || len(p.images) == 0 || len(h.clones) >= 2 {
		return nil
	}
	st, err := h.w.vols.CreateClone(volume.CloneRequest{Ref: p.id})
	if err != nil {
		return fmt.Errorf("clone %s: %w", p.id, err)
	}
	h.note("%s is a clone of %s", st.Session, p.id)
	c := &clone{id: st.Session, base: p.id, blob: p.blob}
	for _, ds := range st.Disks {
		c.disks = append(c.disks, &disk{name: ds.Disk, token: ds.Token, parent: p.id, want: p.images[ds.Disk].clone()})
	}
	c.flush()
	h.clones = append(h.clones, c)
	return nil
}

// changeClone writes blocks, parts of blocks, or zeros.
func (h *history) changeClone() error {
	c, err := h.anyClone()
	if err != nil || c == nil {
		return err
	}
	d := c.disks[h.rng.IntN(len(c.disks))]
	h.note("change %s of clone %s", d.name, c.id)
	c.clean = false
	x, err := h.w.vols.OpenExport(d.token)
	if err != nil {
		return err
	}
	off := h.place(d) * dedup.BlockSize
	switch h.rng.IntN(4) {
	case 0:
		n := min(3*dedup.BlockSize+5, d.want.size-off)
		d.want.zero(off, n)
		err = x.Zero(off, n)
	case 1:
		err = write(d, x, h.anyBlock()[:min(dedup.BlockSize, d.want.size-off)], off)
	default:
		off = min(off+h.rng.Int64N(dedup.BlockSize/512)*512, d.want.size-1)
		err = write(d, x, h.anyBlock()[:min([]int64{512, 4096, dedup.BlockSize}[h.rng.IntN(3)], d.want.size-off)], off)
	}
	if err := errors.Join(err, x.Close()); err != nil {
		return fmt.Errorf("change disk %s of clone %s: %w", d.name, c.id, err)
	}
	return nil
}

func (h *history) flushClone() error {
	c, err := h.anyClone()
	if err != nil || c == nil {
		return err
	}
	h.note("flush clone %s", c.id)
	x, err := h.w.vols.OpenExport(c.disks[0].token)
	if err != nil {
		return err
	}
	if err := errors.Join(x.Flush(), x.Close()); err != nil {
		return fmt.Errorf("flush clone: %w", err)
	}
	c.flush()
	return nil
}

// endClone seals a clone or discards it.
func (h *history) endClone() error {
	c, err := h.anyClone()
	if err != nil || c == nil {
		return err
	}
	h.clones = slices.DeleteFunc(slices.Clone(h.clones), func(o *clone) bool { return o == c })
	if h.rng.IntN(2) == 0 {
		h.note("discard clone %s", c.id)
		return h.w.vols.DiscardClone(c.id)
	}
	h.note("seal clone %s", c.id)
	r, err := h.w.vols.SealClone(c.id)
	if err != nil {
		return err
	}
	h.note("that is point %s", r.Point)
	p := &point{id: r.Point, vm: h.vm, blob: c.blob, manual: true, sealed: true, images: map[string]image{}}
	for _, d := range c.disks {
		p.images[d.name] = image{d.want.clone(), c.base}
	}
	h.points = append(slices.Clone(h.points), p)
	return nil
}

// reviveClones finds every clone as it was. When the power failed one may be stale
// that was not flushed, and is resumed as it was when it was.
func (h *history) reviveClones(mayStale bool) error {
	for _, c := range h.clones {
		st, err := h.w.vols.Status(c.id)
		if err != nil {
			return err
		}
		if st.State == volume.Stale && mayStale && !c.clean {
			h.note("clone %s is stale", c.id)
			if st, err = h.w.vols.ResumeClone(c.id); err != nil {
				return err
			}
			for i, d := range c.disks {
				d.token, d.want = st.Disks[i].Token, c.flushed[i]
			}
			c.flush()
		}
		if st.State != volume.Open {
			return fmt.Errorf("clone %s is %s (%s)", c.id, st.State, st.Reason)
		}
		if err := h.checkClone(c); err != nil {
			return err
		}
		if mayStale { // it was clean, or is now
			c.flush()
		}
	}
	return nil
}

func (h *history) checkClone(c *clone) error {
	for _, d := range c.disks {
		x, err := h.w.vols.OpenExport(d.token)
		if err != nil {
			return fmt.Errorf("clone %s: %w", c.id, err)
		}
		if err := errors.Join(d.want.check(x), x.Close()); err != nil {
			return fmt.Errorf("clone %s, disk %s: %w", c.id, d.name, err)
		}
	}
	return nil
}
