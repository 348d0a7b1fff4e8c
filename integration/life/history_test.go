package life

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/maintenance"
	"github.com/strongroom-backup/strongroom/volume"
)

// history is what happens to one VM, and the model of it.
type history struct {
	s   *setup
	c   *clock
	w   *world
	rng *rand.Rand
	vm  string

	points   points
	sessions []*session
	clones   []*clone
	readers  []*openImage
	gone     []string  // ids of points that were removed
	past     []content // what vdb once was
	size     map[string]int64
	log      []string // of operations
}

func newHistory(s *setup, c *clock, vm string, rng *rand.Rand) *history {
	return &history{s: s, c: c, vm: vm, rng: rng, size: map[string]int64{
		"vda": dedup.ChunkSize + 3*dedup.BlockSize + 7*512, // two chunks, the last block cut short
		"vdb": 4*dedup.BlockSize + 1000,
	}}
}

// op is something a history can do.
type op struct {
	name   string
	weight int
	do     func(*history) error
	// partly says that it is done in several steps, each of which may be the
	// last one before a crash: of several points, or the start of a backup
	// where none is open.
	partly bool
	// crash says that a crash in the middle is understood.
	crash bool
	// alone says that it moves the clock.
	alone bool
}

var ops = []op{
	{name: "write", weight: 24, do: (*history).writeBlocks},
	{name: "write part", weight: 8, do: (*history).writePart},
	{name: "zero", weight: 5, do: (*history).zero},
	{name: "as once", weight: 4, do: (*history).asOnce},
	{name: "change a file", weight: 10, do: (*history).changeFile},
	{name: "name a file", weight: 3, do: (*history).nameFile},
	{name: "flush", weight: 5, do: (*history).flush, crash: true, partly: true},
	{name: "read session", weight: 3, do: (*history).readSession},
	{name: "start", weight: 9, do: (*history).start, crash: true, partly: true},
	{name: "commit", weight: 9, do: (*history).commit, crash: true, partly: true},
	{name: "abort", weight: 1, do: (*history).abort, crash: true, partly: true},
	{name: "clone", weight: 2, do: (*history).makeClone},
	{name: "change a clone", weight: 10, do: (*history).changeClone},
	{name: "flush a clone", weight: 2, do: (*history).flushClone},
	{name: "end a clone", weight: 1, do: (*history).endClone},
	{name: "read", weight: 3, do: (*history).readPoint},
	{name: "open image", weight: 2, do: (*history).openImage},
	{name: "close image", weight: 2, do: (*history).closeImage},
	{name: "delete", weight: 5, do: (*history).delete, crash: true},
	{name: "delete what is read", weight: 2, do: (*history).deleteRead},
	{name: "undelete", weight: 2, do: (*history).undelete, crash: true},
	{name: "hold", weight: 1, do: (*history).hold, crash: true},
	{name: "release", weight: 1, do: (*history).release, crash: true},
	{name: "lock", weight: 1, do: (*history).lock, crash: true},
	{name: "end of lock", weight: 1, do: (*history).endOfLock, alone: true},
	{name: "prune", weight: 1, do: (*history).prune, crash: true, partly: true},
	{name: "merge", weight: 3, do: (*history).merge, crash: true},
	{name: "wait", weight: 2, do: (*history).wait, alone: true},
}

func pickOp(rng *rand.Rand, from []op) *op {
	total := 0
	for i := range from {
		total += from[i].weight
	}
	n := rng.IntN(total)
	for i := range from {
		if n -= from[i].weight; n < 0 {
			return &from[i]
		}
	}
	panic("no operation")
}

// note says in the log what is being done.
func (h *history) note(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf("%s: ", h.vm)+fmt.Sprintf(format, args...))
}

func (h *history) wait() error {
	h.c.advance(time.Duration(h.rng.IntN(30)) * 20 * time.Minute)
	return nil
}

// anySession is an open session; one is opened when there is none.
func (h *history) anySession() (*session, error) {
	if len(h.sessions) == 0 {
		if err := h.start(); err != nil || len(h.sessions) == 0 {
			return nil, err
		}
	}
	return h.sessions[h.rng.IntN(len(h.sessions))], nil
}

func (h *history) anyPoint() *point {
	if len(h.points) == 0 {
		return nil
	}
	return h.points[h.rng.IntN(len(h.points))]
}

// start opens a backup, if there are not enough.
func (h *history) start() error {
	if len(h.sessions) >= 2 {
		return nil
	}
	r := volume.StartRequest{VM: h.vm, Mode: []string{"auto", "auto", "full", "incremental"}[h.rng.IntN(4)],
		TTL: 2000 * time.Hour, Manual: h.rng.IntN(8) == 0, Files: h.rng.IntN(3) == 0, // those are compressed later
		Blobs: []catalog.Blob{{Name: "domain.xml", Data: fmt.Appendf(nil, "<domain>%d</domain>", h.rng.Uint64())}}}
	for _, name := range []string{"vda", "vdb"} {
		if h.rng.IntN(40) == 0 && h.size[name] < dedup.ChunkSize*3/2 {
			h.size[name] += 70_000
		}
		if name == "vdb" || h.rng.IntN(2) == 0 {
			r.Disks = append(r.Disks, volume.DiskSpec{Name: name, Size: h.size[name]})
		}
	}
	var branch *point
	if r.Mode != "full" && h.rng.IntN(4) == 0 {
		branch = h.branchFrom(&r)
	}
	if r.Mode == "incremental" && branch == nil && slices.ContainsFunc(r.Disks, func(d volume.DiskSpec) bool {
		p := h.points.latest(d.Name)
		return p == nil || p.sealed
	}) {
		r.Mode = "auto"
	}
	h.note("start %s, %d disks, parent %q, manual %v, files %v", r.Mode, len(r.Disks), r.Parent, r.Manual, r.Files)
	st, err := h.w.vols.Start(r)
	if everr := h.evicted(); everr != nil {
		return everr
	}
	if errors.Is(err, maintenance.ErrChainLimit) && h.s.settings.ChainLimit > 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	return h.began(&r, branch, &st)
}

// branchFrom makes the request one that begins at some older point.
func (h *history) branchFrom(r *volume.StartRequest) *point {
	p := h.anyPoint()
	if p == nil || p.trashed {
		return nil
	}
	for _, d := range r.Disks {
		if _, ok := p.images[d.Name]; !ok && r.Mode == "incremental" {
			return nil
		}
	}
	r.Parent, r.Branch = p.id, true
	return p
}

// began takes a new session into the model.
func (h *history) began(r *volume.StartRequest, branch *point, st *volume.Status) error {
	s := &session{id: st.Session, clean: true, blob: string(r.Blobs[0].Data), keeps: r.Files, files: map[string]*newFile{}}
	if r.Files {
		s.base = r.Parent
	}
	for _, ds := range st.Disks {
		base := h.points.latest(ds.Disk)
		if branch != nil {
			base = branch
		}
		var under image
		has := false
		if base != nil {
			under, has = base.images[ds.Disk]
		}
		d := &disk{name: ds.Disk, token: ds.Token, parent: ds.Parent}
		switch {
		case has && base.sealed && branch == nil && ds.Parent != "":
			return fmt.Errorf("disk %s inherits from %s, which was a clone, unasked", ds.Disk, base.id)
		case r.Mode != "full" && has && ds.Parent == base.id:
			d.want = under.resized(ds.Size)
		case ds.Parent != "":
			return fmt.Errorf("disk %s, mode %s: parent %s, want %v", ds.Disk, r.Mode, ds.Parent, base)
		case r.Mode != "full" && has && ds.Why == "":
			return fmt.Errorf("disk %s, mode %s: full for no reason, though %s is there", ds.Disk, r.Mode, base.id)
		case has && base.sealed && branch == nil && ds.Why != "":
			d.want = content{}.resized(ds.Size)
		case ds.Why != "" && h.s.settings.FullAfter == 0 && h.s.settings.ChainLimit == 0:
			return fmt.Errorf("disk %s: full because %s", ds.Disk, ds.Why)
		default:
			d.want = content{}.resized(ds.Size)
		}
		s.disks = append(s.disks, d)
	}
	h.sessions = append(h.sessions, s)
	return nil
}

// evicted looks for points that a chain limit took.
func (h *history) evicted() error {
	if h.s.settings.ChainLimit == 0 {
		return nil
	}
	live, err := h.w.cat.Points(h.vm)
	if err != nil {
		return err
	}
	for _, p := range h.points.live() {
		if slices.ContainsFunc(live, func(q catalog.Point) bool { return q.ID == p.id }) {
			continue
		}
		if p.manual || p.protected(h.c.now()) || h.inUse(p.id) {
			return fmt.Errorf("point %s was evicted, which must stay", p.id)
		}
		h.note("point %s was evicted", p.id)
		h.discard(p.id, false)
	}
	return nil
}

// discard is what becomes of a point that is deleted.
func (h *history) discard(id string, now bool) {
	if now || h.s.settings.TrashKeep == 0 {
		h.remove(id)
		return
	}
	purge := h.c.now().Add(h.s.settings.TrashKeep)
	h.points = h.points.with(id, func(p *point) { p.trashed, p.purge = true, purge })
}

func (h *history) remove(id string) {
	h.points = h.points.without(id)
	h.gone = append(h.gone, id)
}

// inUse reports whether an open session inherits from the point, or is a clone of it.
func (h *history) inUse(id string) bool {
	if slices.ContainsFunc(h.clones, func(c *clone) bool { return c.base == id }) {
		return true
	}
	return slices.ContainsFunc(h.sessions, func(s *session) bool {
		return s.base == id || slices.ContainsFunc(s.disks, func(d *disk) bool { return d.parent == id })
	})
}

// anyBlock is one of a few blocks that come again and again, or a new one; some
// compress well.
func (h *history) anyBlock() []byte {
	n := h.rng.Uint64N(30)
	if h.rng.IntN(3) == 0 {
		n = h.rng.Uint64()
	}
	b := make([]byte, dedup.BlockSize)
	random := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24), byte(n >> 32)})
	if n%2 == 0 {
		random.Read(b)
		return b
	}
	random.Read(b[:1024])
	for i := 1024; i < len(b); i *= 2 {
		copy(b[i:], b[:i])
	}
	return b
}

// place is a block near one of the disk's edges.
func (h *history) place(d *disk) int64 {
	blocks := (d.want.size + dedup.BlockSize - 1) / dedup.BlockSize
	if blocks < dedup.ChunkBlocks {
		return h.rng.Int64N(blocks)
	}
	if h.rng.IntN(2) == 0 {
		return h.rng.Int64N(8)
	}
	return dedup.ChunkBlocks - 4 + h.rng.Int64N(blocks-dedup.ChunkBlocks+4)
}

// change does something to a disk of a session.
func (h *history) change(do func(d *disk, x *volume.Disk) error) error {
	s, err := h.anySession()
	if err != nil || s == nil {
		return err
	}
	d := s.disks[h.rng.IntN(len(s.disks))]
	h.note("change %s of session %s", d.name, s.id)
	s.clean = false
	x, err := h.w.vols.OpenExport(d.token)
	if err != nil {
		return err
	}
	if err := errors.Join(do(d, x), x.Close()); err != nil {
		return fmt.Errorf("change disk %s of session %s: %w", d.name, s.id, err)
	}
	return nil
}

func (h *history) writeBlocks() error {
	return h.change(func(d *disk, x *volume.Disk) error {
		off := h.place(d) * dedup.BlockSize
		var p []byte
		for range 1 + h.rng.IntN(5) {
			p = append(p, h.anyBlock()...)
		}
		return write(d, x, p[:min(int64(len(p)), d.want.size-off)], off)
	})
}

func (h *history) writePart() error {
	return h.change(func(d *disk, x *volume.Disk) error {
		off := min(h.place(d)*dedup.BlockSize+h.rng.Int64N(dedup.BlockSize), d.want.size-1)
		n := min(1+h.rng.Int64N(3*dedup.BlockSize/2), d.want.size-off)
		if h.rng.IntN(2) == 0 {
			n = min(n, 512)
		}
		return write(d, x, append(h.anyBlock(), h.anyBlock()...)[:n], off)
	})
}

func write(d *disk, x *volume.Disk, p []byte, off int64) error {
	d.want.write(p, off)
	_, err := x.WriteAt(p, off)
	return err
}

func (h *history) zero() error {
	return h.change(func(d *disk, x *volume.Disk) error {
		off, n := h.place(d)*dedup.BlockSize, int64(2*dedup.BlockSize)
		switch h.rng.IntN(4) {
		case 0:
			off, n = 0, d.want.size
		case 1:
			off += 700
		}
		off = min(off, d.want.size-1)
		n = min(n, d.want.size-off)
		d.want.zero(off, n)
		return x.Zero(off, n)
	})
}

// asOnce makes vdb what it was at some point, which may be gone: its chunks come
// again.
func (h *history) asOnce() error {
	s, err := h.anySession()
	if err != nil || s == nil || len(h.past) == 0 {
		return err
	}
	d := s.disks[len(s.disks)-1]
	old := h.past[h.rng.IntN(len(h.past))]
	if old.size > d.want.size {
		return nil
	}
	h.note("make %s of session %s what it was", d.name, s.id)
	s.clean = false
	x, err := h.w.vols.OpenExport(d.token)
	if err != nil {
		return err
	}
	p := make([]byte, d.want.size)
	for i, b := range old.blocks {
		copy(p[i*dedup.BlockSize:], b[:])
	}
	if err := errors.Join(write(d, x, p, 0), x.Close()); err != nil {
		return fmt.Errorf("change disk %s of session %s: %w", d.name, s.id, err)
	}
	return nil
}

func (h *history) flush() error {
	s, err := h.anySession()
	if err != nil || s == nil {
		return err
	}
	h.note("flush %s", s.id)
	for _, d := range s.disks {
		x, err := h.w.vols.OpenExport(d.token)
		if err != nil {
			return err
		}
		if err := errors.Join(x.Flush(), x.Close()); err != nil {
			return fmt.Errorf("flush: %w", err)
		}
	}
	s.flushed()
	return nil
}

func (h *history) readSession() error {
	s, err := h.anySession()
	if err != nil || s == nil {
		return err
	}
	return h.checkSession(s)
}

func (h *history) checkSession(s *session) error {
	for _, d := range s.disks {
		x, err := h.w.vols.OpenExport(d.token)
		if err != nil {
			return fmt.Errorf("session %s: %w", s.id, err)
		}
		if err := errors.Join(d.want.check(x), x.Close()); err != nil {
			return fmt.Errorf("session %s, disk %s: %w", s.id, d.name, err)
		}
	}
	return h.checkFiles(s)
}

func (h *history) commit() error {
	s, err := h.anySession()
	if err != nil || s == nil {
		return err
	}
	added, err := h.importDisk(s)
	if err != nil {
		return err
	}
	h.note("commit %s", s.id)
	r, err := h.w.vols.Commit(s.id)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	p := &point{id: r.Point, vm: h.vm, blob: s.blob, images: map[string]image{}}
	got, err := h.w.cat.Point(r.Point)
	if err != nil {
		return fmt.Errorf("a point just committed: %w", err)
	}
	p.manual = got.Manual
	for _, d := range s.disks {
		p.images[d.name] = image{d.want.clone(), d.parent}
	}
	p.files = s.committed(added)
	if added != nil {
		p.images[added.name] = image{added.want, added.parent}
	}
	h.note("that is point %s", p.id)
	if im, ok := p.images["vdb"]; ok {
		h.past = append(h.past, im.content)
		h.past = h.past[max(0, len(h.past)-12):]
	}
	h.points = append(slices.Clone(h.points), p)
	h.drop(s)
	return nil
}

func (h *history) drop(s *session) {
	h.sessions = slices.DeleteFunc(slices.Clone(h.sessions), func(o *session) bool { return o == s })
}

func (h *history) abort() error {
	s, err := h.anySession()
	if err != nil || s == nil {
		return err
	}
	h.note("abort %s", s.id)
	if err := h.w.vols.Abort(s.id); err != nil {
		return fmt.Errorf("abort: %w", err)
	}
	h.drop(s)
	return nil
}

func (h *history) readPoint() error {
	if p := h.anyPoint(); p != nil {
		return h.checkPoint(p)
	}
	return nil
}

func (h *history) checkPoint(p *point) error {
	blob, err := h.w.cat.Blob(p.id, "domain.xml")
	if h.expired(p) && errors.Is(err, catalog.ErrNotFound) {
		return nil
	}
	if err != nil || string(blob) != p.blob {
		return fmt.Errorf("point %s, blob %q: %v, want %q", p.id, blob, err, p.blob)
	}
	for name, want := range p.contents() {
		im, err := h.w.vols.OpenImage(p.id, name)
		if p.trashed && errors.Is(err, catalog.ErrNotFound) {
			continue // not before it is undeleted
		}
		if err != nil {
			return fmt.Errorf("open point %s: %w", p.id, err)
		}
		if p.trashed {
			return errors.Join(fmt.Errorf("point %s is in the trash and can be opened", p.id), im.Close())
		}
		if err := errors.Join(want.check(im), im.Close()); err != nil {
			return fmt.Errorf("point %s, disk %s: %w", p.id, name, err)
		}
	}
	return nil
}

func (h *history) openImage() error {
	p := h.anyPoint()
	if p == nil || p.trashed || len(h.readers) >= 3 {
		return nil
	}
	for name, want := range p.contents() {
		im, err := h.w.vols.OpenImage(p.id, name)
		if err != nil {
			return fmt.Errorf("open point %s: %w", p.id, err)
		}
		h.note("read %s of %s", name, p.id)
		h.readers = append(h.readers, &openImage{point: p.id, disk: name, want: want, im: im})
		return nil
	}
	return nil
}

func (h *history) closeImage() error {
	if len(h.readers) == 0 {
		return nil
	}
	r := h.readers[0]
	h.readers = h.readers[1:]
	h.note("close %s of %s", r.disk, r.point)
	if err := errors.Join(r.want.check(r.im), r.im.Close()); err != nil {
		return fmt.Errorf("disk %s of point %s, which was open: %w", r.disk, r.point, err)
	}
	return nil
}

// delete deletes a point, if it may.
func (h *history) delete() error {
	p := h.anyPoint()
	if p == nil || len(h.points) < 3 && h.rng.IntN(3) > 0 {
		return nil
	}
	return h.deletePoint(p, h.rng.IntN(3) == 0)
}

// deleteRead deletes a point for good while an image of it is open.
func (h *history) deleteRead() error {
	for _, r := range h.readers {
		if p := h.points.find(r.point); p != nil {
			return h.deletePoint(p, true)
		}
	}
	return nil
}

func (h *history) deletePoint(p *point, now bool) error {
	h.note("delete %s, now %v", p.id, now)
	_, err := h.w.maint.Delete(p.id, now)
	switch {
	case p.trashed && !now:
		return h.expect("delete what is in the trash", p, err)
	case !p.trashed && p.hold != "":
		return h.expect("delete a held point", p, err, catalog.ErrHeld, catalog.ErrLocked, volume.ErrInUse, maintenance.ErrStrictChains)
	case !p.trashed && h.c.now().Before(p.locked):
		return h.expect("delete a locked point", p, err, catalog.ErrLocked, volume.ErrInUse, maintenance.ErrStrictChains)
	case h.inUse(p.id):
		return h.expect("delete a point in use", p, err, volume.ErrInUse, maintenance.ErrStrictChains)
	case h.s.settings.StrictChains && errors.Is(err, maintenance.ErrStrictChains):
		return nil
	case h.expired(p) && errors.Is(err, catalog.ErrNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("delete: %w", err)
	}
	h.discard(p.id, now)
	return nil
}

// expect wants one of the errors, or none if none is named.
func (h *history) expect(what string, p *point, err error, want ...error) error {
	if len(want) == 0 && (err == nil || h.expired(p)) {
		return nil
	}
	if slices.ContainsFunc(want, func(w error) bool { return errors.Is(err, w) }) {
		return nil
	}
	return fmt.Errorf("%s %s: %v, want %v", what, p.id, err, want)
}

// expired reports whether the collection of garbage may have taken the point
// from the trash.
func (h *history) expired(p *point) bool { return p.trashed && !p.purge.After(h.c.now()) }

func (h *history) undelete() error {
	for _, p := range h.points {
		if !p.trashed || h.rng.IntN(2) == 0 {
			continue
		}
		h.note("undelete %s", p.id)
		_, err := h.w.maint.Undelete(p.id)
		if h.expired(p) && errors.Is(err, catalog.ErrNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("undelete: %w", err)
		}
		h.points = h.points.with(p.id, func(p *point) { p.trashed, p.purge = false, time.Time{} })
		return nil
	}
	if len(h.gone) == 0 {
		return nil
	}
	id := h.gone[h.rng.IntN(len(h.gone))]
	if _, err := h.w.maint.Undelete(id); !errors.Is(err, catalog.ErrNotFound) {
		return fmt.Errorf("undelete of %s, which is gone: %v", id, err)
	}
	return nil
}

func (h *history) hold() error {
	p := h.anyPoint()
	if p == nil {
		return nil
	}
	reason := fmt.Sprintf("case %d", h.rng.IntN(100))
	h.note("hold %s", p.id)
	_, err := h.w.maint.Hold(p.id, reason)
	if p.trashed {
		return h.expect("hold what is in the trash", p, err, catalog.ErrInvalid, catalog.ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("hold: %w", err)
	}
	h.points = h.points.with(p.id, func(p *point) { p.hold = reason })
	return nil
}

func (h *history) release() error {
	for _, p := range h.points {
		if p.hold == "" {
			continue
		}
		h.note("release %s", p.id)
		if _, err := h.w.maint.Release(p.id); err != nil {
			return fmt.Errorf("release: %w", err)
		}
		h.points = h.points.with(p.id, func(p *point) { p.hold = "" })
		return nil
	}
	return nil
}

func (h *history) lock() error {
	p := h.anyPoint()
	if p == nil {
		return nil
	}
	if i := slices.IndexFunc(h.points, func(p *point) bool { return h.c.now().Before(p.locked) }); i >= 0 && h.rng.IntN(2) == 0 {
		p = h.points[i] // once more
	}
	until := h.c.now().Add(time.Duration(1+h.rng.IntN(60)) * 20 * time.Minute)
	h.note("lock %s until %v", p.id, until)
	_, err := h.w.maint.Lock(p.id, until)
	switch {
	case p.trashed:
		return h.expect("lock what is in the trash", p, err, catalog.ErrInvalid, catalog.ErrNotFound)
	case until.Before(p.locked):
		return h.expect("shorten the lock of", p, err, catalog.ErrLocked)
	case err != nil:
		return fmt.Errorf("lock: %w", err)
	}
	h.points = h.points.with(p.id, func(p *point) { p.locked = until })
	return nil
}

// endOfLock deletes a point a moment before its lock ends, and then.
func (h *history) endOfLock() error {
	for _, p := range h.points {
		before := p.locked.Add(-time.Millisecond)
		if p.trashed || p.hold != "" || h.inUse(p.id) || before.Before(h.c.now()) {
			continue
		}
		h.c.advance(before.Sub(h.c.now()))
		if err := h.deletePoint(p, true); err != nil {
			return fmt.Errorf("at %v: %w", h.c.now(), err)
		}
		h.c.advance(time.Millisecond)
		return h.deletePoint(p, true)
	}
	return nil
}

// merge makes one image of a line of images.
func (h *history) merge() error {
	top := h.anyPoint()
	if top == nil {
		return nil
	}
	name := []string{"vda", "vdb", "vdc"}[h.rng.IntN(3)]
	var line []string // newest first
	for p := top; p != nil && !p.trashed; {
		im, ok := p.images[name]
		if !ok {
			break
		}
		line = append(line, p.id)
		p = h.points.find(im.parent)
	}
	if len(line) < 2 {
		return nil
	}
	line = line[:2+h.rng.IntN(len(line)-1)]
	slices.Reverse(line)
	return h.mergeLine(name, line, h.rng.IntN(2) == 0)
}

func (h *history) mergeLine(name string, line []string, commit bool) error {
	base, top := line[0], line[len(line)-1]
	r := maintenance.MergeRequest{VM: h.vm, Disk: name, From: base, Into: top}
	touched := line[:len(line)-1]
	if commit {
		r.From, r.Into, touched = top, base, line
	}
	want := h.mayMerge(touched)
	h.note("merge %s of %v, commit %v", name, line, commit)
	m, err := h.w.maint.Merge(r)
	if len(want) > 0 {
		return h.expect("merge what must stay:", h.points.find(base), err, want...)
	}
	if err != nil {
		return fmt.Errorf("merge: %w", err)
	}
	if len(m.Gone) != len(line)-1 {
		return fmt.Errorf("merge of %v: %v are gone", line, m.Gone)
	}
	before := h.points
	h.points = before.merged(name, line, commit)
	for _, id := range line {
		if h.points.find(id) == nil {
			h.gone = append(h.gone, id)
		}
	}
	return nil
}

// mayMerge are the errors of a merge that changes these points' images; none if
// it may.
func (h *history) mayMerge(touched []string) (want []error) {
	for _, id := range touched {
		p := h.points.find(id)
		if p.hold != "" {
			want = append(want, catalog.ErrHeld)
		}
		if h.c.now().Before(p.locked) {
			want = append(want, catalog.ErrLocked)
		}
		if h.inUse(id) || slices.ContainsFunc(h.readers, func(r *openImage) bool { return r.point == id }) {
			want = append(want, volume.ErrInUse)
		}
	}
	return want
}

// collect collects garbage while nothing else goes on.
func (h *history) collect(ctx context.Context) error {
	return collect(ctx, h.w, []float64{0, 0.01, 1}[h.rng.IntN(3)], true)
}

// collect collects garbage. When it is quiet, nobody may refer to blocks that are
// not there; a writer may, for the moment it takes to notice that a pack was
// swapped.
func collect(ctx context.Context, w *world, ratio float64, quiet bool) error {
	r, err := w.maint.Collect(ctx, maintenance.CollectOptions{DeadRatio: ratio})
	if err != nil {
		return err
	}
	if r.Tally.UnknownMarks != 0 && quiet {
		return fmt.Errorf("collect garbage: %d marks of blocks that are not there", r.Tally.UnknownMarks)
	}
	return nil
}

// compress compresses what sessions of files stored without. When it is quiet,
// no pack that waits is left out; one that is being sealed may come to wait
// meanwhile.
func compress(ctx context.Context, w *world, quiet bool) error {
	waiting := w.store.LaterPacks()
	r, err := w.maint.Compress(ctx, maintenance.CompressOptions{})
	if err != nil {
		return err
	}
	left := w.store.LaterPacks()
	if quiet && slices.ContainsFunc(waiting, func(pack uint64) bool { return slices.Contains(left, pack) }) {
		return fmt.Errorf("compress: %+v; packs %v waited, %v still do", r, waiting, left)
	}
	return nil
}

// verify reads everything again. Nothing may be damaged but what a power cut
// left of blocks that nobody was promised.
func verify(ctx context.Context, w *world, ref string, torn bool) error {
	r, err := w.maint.Verify(ctx, maintenance.VerifyRequest{Ref: ref})
	if err != nil {
		return fmt.Errorf("verify %q: %w", ref, err)
	}
	if r.DamagedBlocks != 0 && !torn || r.DamagedPacks != 0 || len(r.Affected) != 0 {
		return fmt.Errorf("verify %q: %+v", ref, r)
	}
	return nil
}
