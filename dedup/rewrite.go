package dedup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"github.com/strongroom-backup/strongroom/internal/mutant"
	"github.com/strongroom-backup/strongroom/tier"
)

// rewrite writes a new generation of a pack. It has a write path of its own:
// nobody else knows of the file before it is whole, durable and read back, and
// after any failure it is removed.
type rewrite struct {
	s     *Store
	ctx   context.Context
	limit *rate.Limiter
	id    tier.ID
	file  tier.File

	toc   toc
	size  int64  // where buf goes
	buf   []byte // frames not yet written
	moved int64  // bytes written

	group   *regroup   // blocks of the next frame
	pending []*regroup // full, being compressed, in order
	free    []*regroup // to be used again
	width   func() int // how many are compressed at a time
	ended   bool       // the file may look sealed
}

// regroup is blocks that get a frame of their own.
type regroup struct {
	slots   []uint16
	hashes  []Hash
	raw     []byte
	payload []byte
	codec   uint16
	done    chan struct{} // holds one token when payload is there
}

func newRegroup() *regroup {
	return &regroup{raw: make([]byte, 0, frameRaw), done: make(chan struct{}, 1)}
}

// newRewrite makes the file of the pack's next generation. Generations that an
// earlier attempt left behind are stepped over.
func (s *Store) newRewrite(ctx context.Context, old tier.ID, p rewritePlan) (*rewrite, error) {
	const attempts = 16
	w := &rewrite{s: s, ctx: ctx, limit: p.limit, id: old, size: packHeaderSize, width: p.width, group: newRegroup()}
	var err error
	for range attempts {
		if w.id.Gen++; w.id.Gen == 0 {
			return nil, fmt.Errorf("%v: all generations are used up", old)
		}
		if w.file, err = s.tier.Create(w.id); !errors.Is(err, tier.ErrExists) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	h := packHeader{domain: s.opts.Domain, gen: w.id.Gen, pack: w.id.Pack, created: s.opts.Clock(), store: s.opts.StoreID}
	w.size = 0
	w.buf = h.append(make([]byte, 0, readSpan+frameRaw+maxFrameHeader))
	return w, nil
}

// place is where the next frame goes.
func (w *rewrite) place() int64 { return w.size + int64(len(w.buf)) }

// copyFrame takes a frame as it is but for its header. The entries are those of
// its blocks that stay.
func (w *rewrite) copyFrame(from *toc, frame int, h frameHeader, payload []byte, entries []int) error {
	if err := w.endFrames(); err != nil {
		return err
	}
	f := from.frames[frame]
	f.offset = uint32(w.place())
	h.pack, h.gen = w.id.Pack, w.id.Gen
	for _, e := range entries {
		slot := from.slots[e]
		w.toc.slots = append(w.toc.slots, tocSlot{slot: slot.slot, frame: uint16(len(w.toc.frames)), pos: slot.pos})
		w.toc.hashes = append(w.toc.hashes, from.hashes[e])
	}
	w.toc.frames = append(w.toc.frames, f)
	at := len(w.buf)
	w.buf = w.buf[:at+frameHeaderSize(int(h.count))]
	h.put(w.buf[at:])
	w.buf = append(w.buf, payload...)
	return w.write(readSpan)
}

// addBlock takes a block that goes into a frame with its new neighbours.
func (w *rewrite) addBlock(slot uint16, hash Hash, data []byte) error {
	g := w.group
	g.slots, g.hashes, g.raw = append(g.slots, slot), append(g.hashes, hash), append(g.raw, data...)
	if len(g.slots) < FrameBlocks {
		return nil
	}
	return w.endFrame()
}

// addLost keeps the place of a block there is no good copy of.
func (w *rewrite) addLost(slot uint16, hash Hash) error {
	if err := w.endFrames(); err != nil {
		return err
	}
	w.toc.slots = append(w.toc.slots, tocSlot{slot: slot, flags: slotDamaged | slotLost})
	w.toc.hashes = append(w.toc.hashes, hash)
	return nil
}

// endFrame has the blocks gathered so far compressed. Frames are compressed as
// many at a time as the width allows and written in their order.
func (w *rewrite) endFrame() error {
	g, width := w.group, 1
	if len(g.slots) == 0 {
		return nil
	}
	if w.width != nil {
		width = w.width()
	}
	w.group = w.unused()
	w.pending = append(w.pending, g)
	if width == 1 {
		g.compress(w.s.codec)
	} else {
		go g.compress(w.s.codec)
	}
	return w.settle(width - 1)
}

// endFrames ends the frame and waits for all of them.
func (w *rewrite) endFrames() error {
	if err := w.endFrame(); err != nil {
		return err
	}
	return w.settle(0)
}

func (w *rewrite) unused() *regroup {
	n := len(w.free)
	if n == 0 {
		return newRegroup()
	}
	g := w.free[n-1]
	w.free = w.free[:n-1]
	return g
}

func (g *regroup) compress(c *codec) {
	g.payload, g.codec = c.encode(g.payload[:0], g.raw)
	if mutant.On("dedup/compress-again") && g.codec == codecRaw {
		g.codec = codecLater
	}
	g.done <- struct{}{}
}

// settle writes the frames that wait, but for the last few, which may still be
// compressed.
func (w *rewrite) settle(left int) error {
	for len(w.pending) > left {
		g := w.pending[0]
		<-g.done
		w.pending = append(w.pending[:0], w.pending[1:]...)
		w.addFrame(g)
		g.slots, g.hashes, g.raw = g.slots[:0], g.hashes[:0], g.raw[:0]
		w.free = append(w.free, g)
		if err := w.write(readSpan); err != nil {
			return err
		}
	}
	return nil
}

// addFrame puts a compressed frame behind the others.
func (w *rewrite) addFrame(g *regroup) {
	n := len(g.slots)
	h := frameHeader{
		count: uint8(n), codec: g.codec, domain: w.s.opts.Domain, pack: w.id.Pack, gen: w.id.Gen,
		payload: uint32(len(g.payload)), crc: crc(g.payload),
	}
	for i := range h.slots {
		h.slots[i] = slotUnused
	}
	copy(h.slots[:], g.slots)
	copy(h.hashes[:], g.hashes)
	w.toc.add(&h, w.place(), 0)
	at := len(w.buf)
	w.buf = w.buf[:at+frameHeaderSize(n)]
	h.put(w.buf[at:])
	w.buf = append(w.buf, g.payload...)
}

// write puts what is gathered into the file once it is so much.
func (w *rewrite) write(least int) error {
	if len(w.buf) < least || len(w.buf) == 0 {
		return nil
	}
	if w.place()+int64(tailSize(len(w.toc.frames), len(w.toc.slots))) > maxPackFile {
		return fmt.Errorf("%v would have more than %d bytes", w.id, maxPackFile)
	}
	if err := waitFor(w.ctx, w.limit, len(w.buf)); err != nil {
		return err
	}
	if err := w.put(w.buf); err != nil {
		return err
	}
	w.buf = w.buf[:0]
	return nil
}

func (w *rewrite) put(b []byte) error {
	n := len(b) // a file may scribble on what it is given, not on its length
	if _, err := w.file.WriteAt(b, w.size); err != nil {
		return fmt.Errorf("write %v at %d: %w", w.id, w.size, err)
	}
	w.s.space.used(n)
	w.s.count.packWrites.Add(1)
	w.s.count.packWriteBytes.Add(uint64(n))
	w.size += int64(n)
	w.moved += int64(n)
	return nil
}

// finish makes the file whole and durable and reads it back. A footer promises
// that the frames before it are durable, so it comes after their sync. A sync
// that fails is not tried again: the caller discards the file.
func (w *rewrite) finish() error {
	if err := w.endFrames(); err != nil {
		return err
	}
	if err := w.write(0); err != nil {
		return err
	}
	if err := w.sync(); err != nil { // the frames, before the footer is there
		return err
	}
	if err := w.writeTail(); err != nil {
		return err
	}
	if !mutant.On("dedup/swap-before-sync") {
		if err := w.sync(); err != nil { // the footer, before anybody relies on it
			return err
		}
	}
	if err := w.file.Close(); err != nil {
		w.file = nil
		return fmt.Errorf("close %v: %w", w.id, err)
	}
	w.file = nil
	return w.readBack()
}

func (w *rewrite) writeTail() error {
	w.ended = true // from the first byte on: a write that fails may have happened
	return w.put(appendTail(nil, &w.toc, w.id.Pack, w.id.Gen, w.size))
}

func (w *rewrite) sync() error {
	start := time.Now()
	err := w.file.Sync()
	w.s.count.packSyncs.Add(1)
	w.s.count.syncTime.Since(start)
	if err != nil {
		w.s.count.packSyncErrors.Add(1)
		return fmt.Errorf("fdatasync of %v failed, it is given up: %w", w.id, asEIO(err))
	}
	return nil
}

// readBack checks every byte of the finished file. Blocks that were lost before
// are all that may be wrong.
func (w *rewrite) readBack() error {
	found, err := w.s.examine(w.ctx, w.id, nil)
	if err != nil {
		return err
	}
	if found.unreadable != nil {
		return fmt.Errorf("read back %v: %w", w.id, found.unreadable)
	}
	if err := found.firstWrong(); err != nil {
		return fmt.Errorf("read back %v: %w", w.id, err)
	}
	if found.toc == nil || !found.toc.equal(&w.toc) {
		return fmt.Errorf("read back %v: it does not hold what was written", w.id)
	}
	return nil
}

// discard removes the file after a failure. If it may look sealed and cannot be
// removed for certain, the next start may choose it: then the pack is frozen.
func (w *rewrite) discard() error {
	for _, g := range w.pending {
		<-g.done
	}
	var err error
	if w.file != nil {
		err = w.file.Close()
	}
	w.s.files.leave(w.id)
	removed := w.s.tier.Remove(w.id)
	if removed != nil && w.ended {
		w.s.freeze(w.id.Pack)
	}
	return errors.Join(err, removed)
}

// freeze keeps every block of a pack from being a dedup hit until the next
// start, because it is not certain which generation that will choose.
func (s *Store) freeze(pack uint64) {
	s.frozen.add(pack)
	s.swapped() // batches that looked before look again
}
