package dedup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/time/rate"

	"github.com/strongroom-backup/strongroom/internal/mutant"
	"github.com/strongroom-backup/strongroom/tier"
)

// examined is what a look at every byte of a pack that means something found.
// Nothing of it is reported or remembered yet.
type examined struct {
	id         tier.ID
	toc        *toc // nil when unreadable; lossy when put together from frames
	size       int64
	bytes      int64          // read
	blocks     int            // that have their hash
	damaged    []*DamageError // blocks that have not
	structure  []*DamageError // anything else
	unreadable error          // why the pack as a whole cannot be looked at
}

// whole reports that nothing at all is wrong.
func (e *examined) whole() bool {
	return e.unreadable == nil && len(e.damaged) == 0 && len(e.structure) == 0
}

// firstWrong is the first finding but blocks known to be lost.
func (e *examined) firstWrong() error {
	for _, d := range e.structure {
		return d
	}
	for _, d := range e.damaged {
		if i := e.toc.find(uint16(d.Slot)); i < 0 || e.toc.slots[i].flags&slotLost == 0 {
			return d
		}
	}
	return nil
}

// examine reads one generation of a sealed pack. The error is the context's or
// the limiter's.
func (s *Store) examine(ctx context.Context, id tier.ID, l *rate.Limiter) (examined, error) {
	e := examined{id: id}
	f, err := s.packFile(id)
	if err != nil {
		e.unreadable = err
		return e, ctx.Err()
	}
	defer f.release()
	if e.size, e.unreadable = f.value.Size(); e.unreadable != nil {
		return e, ctx.Err()
	}
	if e.unreadable = e.header(s, f.value); e.unreadable == nil {
		e.unreadable = e.table(s, f.value)
	}
	if e.unreadable != nil {
		return e, ctx.Err()
	}
	return e, e.frames(ctx, s, f.value, l)
}

func (e *examined) wrong(offset int64, format string, args ...any) {
	e.structure = append(e.structure, damagedPack(e.id.Pack, e.id.Gen, offset, format, args...))
}

func (e *examined) header(s *Store, file tier.File) error {
	var b [packHeaderSize]byte
	if err := readFull(file, b[:], 0); err != nil && err != io.ErrUnexpectedEOF {
		return err
	}
	e.bytes += packHeaderSize
	h, err := parsePackHeader(b[:])
	switch {
	case errors.Is(err, ErrNewerFormat):
		return err
	case err != nil:
		e.wrong(0, "the pack header is damaged")
	case h.store != s.opts.StoreID || h.pack != e.id.Pack || h.gen != e.id.Gen || h.domain != s.opts.Domain:
		return fmt.Errorf("the file named %v is %w", e.id, errForeign)
	}
	return nil
}

// table reads both copies of the TOC, or finds out what the frames say.
func (e *examined) table(s *Store, file tier.File) error {
	foot, err := readFooter(e.id, file)
	switch {
	case isDamage(err):
		e.wrong(max(0, e.size-footerSize), "there is no valid footer")
	case err != nil:
		return err
	default:
		for _, off := range []int64{foot.toc1, foot.toc2} {
			t, err := readTOCCopy(file, foot, off)
			if err != nil {
				return err
			}
			e.bytes += int64(foot.length)
			if t == nil {
				e.wrong(off, "a table of contents is damaged")
			} else if e.toc == nil {
				e.toc = t
			}
		}
		e.bytes += footerSize
	}
	if e.toc != nil {
		return nil
	}
	sc, err := s.scan(e.id, file, true)
	if err != nil {
		return err
	}
	e.toc = sc.toc
	e.toc.lossy = true
	return nil
}

// frames checks every frame and every block that has an entry.
func (e *examined) frames(ctx context.Context, s *Store, file tier.File, l *rate.Limiter) error {
	r := newFrameReader(s, ctx, e.id, file, e.toc, l)
	byFrame := e.toc.entriesByFrame()
	for frame := range e.toc.frames {
		if err := r.load(frame); err != nil {
			return err
		}
		before := len(e.damaged)
		if err := e.check(r, byFrame[frame]); err != nil {
			return err
		}
		blocksTold := len(e.damaged) > before
		switch off := int64(e.toc.frames[frame].offset); {
		case r.headErr != nil && (r.dataErr == nil || !blocksTold):
			e.wrong(off, "frame %d: %v", frame, r.headErr)
		case r.crcBad && !blocksTold:
			e.wrong(off, "frame %d: the payload does not have its checksum", frame)
		}
	}
	e.bytes += r.bytes
	return e.check(r, e.toc.lost())
}

func (e *examined) check(r *frameReader, entries []int) error {
	for _, i := range entries {
		_, wrong, err := r.block(i)
		if err != nil {
			return err
		}
		if mutant.On("dedup/verify-blind") {
			wrong = nil
		}
		slot := e.toc.slots[i]
		if wrong == nil {
			e.blocks++
			continue
		}
		var off int64
		if slot.flags&slotLost == 0 {
			off = int64(e.toc.frames[slot.frame].offset)
		}
		d := damagedPack(e.id.Pack, e.id.Gen, off, "%v", wrong)
		d.Slot = int(slot.slot)
		e.damaged = append(e.damaged, d)
	}
	return nil
}

// entriesByFrame lists the entries of each frame, lost ones left out.
func (t *toc) entriesByFrame() [][]int {
	out := make([][]int, len(t.frames))
	for i, s := range t.slots {
		if s.flags&slotLost == 0 {
			out[s.frame] = append(out[s.frame], i)
		}
	}
	return out
}

// lost lists the entries without a block.
func (t *toc) lost() (entries []int) {
	for i, s := range t.slots {
		if s.flags&slotLost != 0 {
			entries = append(entries, i)
		}
	}
	return entries
}

// damagedSlots lists the slots of damaged blocks in order.
func (e *examined) damagedSlots() []uint16 {
	var slots []uint16
	for _, d := range e.damaged {
		slots = append(slots, uint16(d.Slot))
	}
	slices.Sort(slots)
	return slots
}
