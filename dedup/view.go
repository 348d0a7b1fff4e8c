package dedup

import (
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/strongroom-backup/strongroom/tier"
)

var errEIO error = syscall.EIO

func isDamage(err error) bool { return errors.Is(err, ErrDamaged) }

// view is what a pack holds at the moment.
type view struct {
	*toc
	id   tier.ID
	open *openPack // nil once sealed: then everything in it is durable
}

// trusts reports whether the block at an entry may be a dedup hit.
func (v *view) trusts(entry int) bool {
	s := v.slots[entry]
	return s.flags&slotDamaged == 0 && (v.open == nil || v.open.trusts(int(s.slot)))
}

// view returns the table of a pack, from the pack's file if need be.
func (s *Store) view(pack uint64) (view, error) {
	if p := s.open.get(pack); p != nil {
		return view{toc: p.view.Load(), id: p.id, open: p}, nil
	}
	for {
		gen, ok := s.packs.gen(pack)
		if !ok && s.health.isMissing(pack) {
			return view{}, fmt.Errorf("pack %d: %w", pack, errMissing)
		}
		if !ok {
			return view{}, fmt.Errorf("pack %d: %w", pack, ErrUnknownAddr)
		}
		id := tier.ID{Pack: pack, Gen: gen}
		e, err := s.tocs.get(id, func() (*toc, int64, error) { return s.loadTOC(id) })
		if err == nil {
			defer e.release()
			return view{toc: e.value, id: id}, nil
		}
		if !s.moved(id, err) {
			return view{}, err
		}
	}
}

// moved reports whether a generation is not there because another one has
// taken its place meanwhile.
func (s *Store) moved(id tier.ID, err error) bool {
	if !errors.Is(err, tier.ErrNotFound) {
		return false
	}
	gen, ok := s.packs.gen(id.Pack)
	return !ok || gen != id.Gen
}

// loadTOC reads a sealed pack's table. When both copies are damaged the frames
// tell what they hold.
func (s *Store) loadTOC(id tier.ID) (*toc, int64, error) {
	s.count.tocLoads.Add(1)
	f, err := s.packFile(id)
	if err != nil {
		return nil, 0, err
	}
	defer f.release()
	if s.readOnly {
		return s.loadUnrecovered(id, f.value)
	}
	t, err := s.readTOC(id, f.value)
	if isDamage(err) {
		s.reportDamage(err)
		var sc scanned
		if sc, err = s.scan(id, f.value, true); err == nil {
			t = sc.toc
			t.lossy = true
		}
	}
	if err != nil {
		return nil, 0, err
	}
	return t, t.memory(), nil
}

// packFile returns a handle for reading a pack.
func (s *Store) packFile(id tier.ID) (*cached[tier.ID, tier.File], error) {
	return s.files.get(id, func() (tier.File, int64, error) {
		f, err := s.tier.Open(id)
		return f, 1, err
	})
}

// readTOC reads the footer and the first good copy of the TOC. A pack without
// them is damaged, or was never sealed.
func (s *Store) readTOC(id tier.ID, file tier.File) (*toc, error) {
	f, err := readFooter(id, file)
	if err != nil {
		return nil, err
	}
	for i, off := range []int64{f.toc1, f.toc2} {
		t, err := readTOCCopy(file, f, off)
		if err != nil {
			return nil, err
		}
		if t != nil {
			return t, nil
		}
		if i == 0 {
			s.damage(damagedPack(id.Pack, id.Gen, off, "the first table of contents is damaged, the second is used"))
		}
	}
	return nil, damagedPack(id.Pack, id.Gen, f.toc2, "both tables of contents are damaged")
}

// readFooter reads the end of a sealed pack.
func readFooter(id tier.ID, file tier.File) (footer, error) {
	size, err := file.Size()
	if err != nil {
		return footer{}, err
	}
	if size < packHeaderSize+footerSize || size > maxPackFile {
		return footer{}, damagedPack(id.Pack, id.Gen, size, "%d bytes cannot be a sealed pack", size)
	}
	var b [footerSize]byte
	if err := readFull(file, b[:], size-footerSize); err != nil {
		return footer{}, err
	}
	f, err := parseFooter(b[:], size)
	if err != nil || f.pack != id.Pack || f.gen != id.Gen {
		return footer{}, damagedPack(id.Pack, id.Gen, size-footerSize, "no valid footer")
	}
	return f, nil
}

// readTOCCopy reads one of the two copies; a damaged one is nil.
func readTOCCopy(file tier.File, f footer, off int64) (*toc, error) {
	b := make([]byte, f.length)
	if err := readFull(file, b, off); err != nil {
		return nil, err
	}
	t, err := parseTOC(b, f.toc1)
	if err != nil || [32]byte(b[f.length-tocHashSize:]) != f.hash {
		return nil, nil
	}
	return t, nil
}

// checkHeader refuses a pack of a newer format or another store. A damaged
// header is reported and passed over: all it says is known from the name. begun
// is false when there is no header, as in a spare and after a power cut.
func (s *Store) checkHeader(id tier.ID, file tier.File) (begun bool, err error) {
	var b [packHeaderSize]byte
	if err := readFull(file, b[:], 0); errors.Is(err, io.ErrUnexpectedEOF) || err == nil && isZero(b[:]) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	h, err := parsePackHeader(b[:])
	switch {
	case errors.Is(err, ErrNewerFormat):
		return true, fmt.Errorf("%v: %w", id, err)
	case err != nil:
		s.headerDamage(id)
		return true, nil
	case h.store != s.opts.StoreID || h.pack != id.Pack || h.gen != id.Gen:
		return true, fmt.Errorf("the file named %v is %w: pack %d generation %d of store %x, and this store is %x: take it out of the tier",
			id, errForeign, h.pack, h.gen, h.store, s.opts.StoreID)
	}
	return true, nil
}

func (s *Store) headerDamage(id tier.ID) {
	s.damage(damagedPack(id.Pack, id.Gen, 0, "the pack header is damaged"))
}

// damage counts and reports wrong bytes and returns the error. A damaged block
// is no dedup hit any more.
func (s *Store) damage(err *DamageError) error {
	s.count.damaged.Add(1)
	if err.Slot != noSlot && s.health.add(MakeAddr(err.Pack, uint16(err.Slot))) {
		s.saveHealth(err.Pack)
	}
	s.opts.Events.damage(err)
	return err
}

func (s *Store) reportDamage(err error) {
	var d *DamageError
	if errors.As(err, &d) {
		s.damage(d)
	}
}

// readFull reads len(b) bytes at off; fewer are io.ErrUnexpectedEOF.
func readFull(file tier.File, b []byte, off int64) error {
	n, err := file.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == io.EOF || err == nil {
		return io.ErrUnexpectedEOF
	}
	return err
}
