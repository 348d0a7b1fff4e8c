package dedup

import (
	"math"
	"slices"
	"time"

	"github.com/strongroom-backup/strongroom/tier"
)

// PackInfo is what the store knows of a pack.
type PackInfo struct {
	ID            tier.ID
	Slots, Frames int
	Bytes         int64     // of the file; of an open pack so far
	LaterBytes    int64     // of its frames whose compression was not tried, headers included
	Open          bool      // without a footer: growing, or given up after a failed fdatasync
	Verified      time.Time // when everything in it was last found good; zero: never
	Damaged       int       // blocks known to be damaged
	Missing       bool      // the index knows it, the tier has not got it
	Unreadable    bool      // nothing of it could be read when it was last looked at
}

// Packs calls visit for every pack in order of number until it returns false.
// It reads the block index only.
func (s *Store) Packs(visit func(PackInfo) bool) error {
	if s.closed.Load() {
		return ErrClosed
	}
	others := s.unindexedPacks()
	const page = 1024
	for from := uint64(0); ; {
		infos, err := s.packPage(from, page)
		if err != nil {
			return err
		}
		last := len(infos) < page
		to := uint64(math.MaxUint64)
		if !last {
			to = infos[len(infos)-1].ID.Pack
			from = to + 1
		}
		n, _ := slices.BinarySearchFunc(others, to, func(i PackInfo, pack uint64) int {
			if i.ID.Pack <= pack {
				return -1
			}
			return 1
		})
		for _, info := range mergePacks(infos, others[:n]) {
			if !visit(info) {
				return nil
			}
		}
		if others = others[n:]; last {
			return nil
		}
	}
}

// unindexedPacks lists open packs and those that could not be read at Open.
func (s *Store) unindexedPacks() (infos []PackInfo) {
	seen := make(map[uint64]bool)
	for _, p := range s.open.all() {
		t := p.view.Load()
		seen[p.id.Pack] = true
		infos = append(infos, PackInfo{
			ID: p.id, Slots: len(t.slots), Frames: len(t.frames), Bytes: t.end(), LaterBytes: t.laterBytes(), Open: true,
			Damaged: s.health.state(p.id.Pack).damaged,
		})
	}
	for _, pack := range s.health.lost() {
		if gen, ok := s.packs.gen(pack); ok && !seen[pack] {
			infos = append(infos, PackInfo{ID: tier.ID{Pack: pack, Gen: gen}, Damaged: s.health.state(pack).damaged, Unreadable: true})
		}
	}
	slices.SortFunc(infos, func(a, b PackInfo) int { return comparePacks(a.ID, b.ID) })
	return infos
}

// packPage reads the records of up to limit packs.
func (s *Store) packPage(from uint64, limit int) (infos []PackInfo, err error) {
	err = s.index.page('p', from, limit, func(pack uint64, v []byte) error {
		r, err := parsePackRecord(v)
		if err == nil {
			info := PackInfo{ID: tier.ID{Pack: pack, Gen: r.gen}, Slots: int(r.slots), Frames: int(r.frames), Bytes: r.size, LaterBytes: s.later.get(pack)}
			infos = append(infos, info)
		}
		return err
	})
	if err != nil || len(infos) == 0 {
		return nil, err
	}
	i := 0
	err = s.index.page('v', infos[0].ID.Pack, limit, func(pack uint64, v []byte) error {
		for i < len(infos) && infos[i].ID.Pack < pack {
			i++
		}
		if i == len(infos) || infos[i].ID.Pack != pack {
			return nil
		}
		infos[i].Verified, err = parseVerified(v)
		return err
	})
	for i := range infos {
		info := &infos[i]
		known := s.health.state(info.ID.Pack)
		info.Damaged, info.Missing, info.Unreadable = known.damaged, known.missing, known.unreadable
	}
	return infos, err
}

// mergePacks merges two lists in order; of a pack in both the second counts
// when it is open.
func mergePacks(a, b []PackInfo) []PackInfo {
	out := make([]PackInfo, 0, len(a)+len(b))
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].ID.Pack < b[0].ID.Pack:
			out, a = append(out, a[0]), a[1:]
		case len(a) == 0 || b[0].ID.Pack < a[0].ID.Pack:
			out, b = append(out, b[0]), b[1:]
		default:
			if b[0].Open {
				out = append(out, b[0])
			} else {
				out = append(out, a[0])
			}
			a, b = a[1:], b[1:]
		}
	}
	return out
}

func comparePacks(a, b tier.ID) int {
	switch {
	case a.Pack != b.Pack && a.Pack < b.Pack, a.Pack == b.Pack && a.Gen < b.Gen:
		return -1
	case a == b:
		return 0
	}
	return 1
}
