package life

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"path"
	"slices"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/internal/crashfs"
	"github.com/strongroom-backup/strongroom/volume"
)

// is holds the catalog against a model of the VM's points.
func (h *history) is(want points) error {
	live, err := h.w.cat.Points(h.vm)
	if err != nil {
		return err
	}
	trash, err := h.trash()
	if err != nil {
		return err
	}
	if n := len(want.live()); n != len(live) || len(want)-n != len(trash) {
		return fmt.Errorf("VM %s has %d points and %d in the trash, want %d and %d%s", h.vm, len(live), len(trash), n, len(want)-n,
			listDifference(append(live, trash...), want))
	}
	for i, p := range want.live() {
		if err := same(&live[i], p); err != nil {
			return err
		}
	}
	for i := range trash {
		p := want.find(trash[i].ID)
		if p == nil {
			return fmt.Errorf("point %s is in the trash", trash[i].ID)
		}
		if err := same(&trash[i], p); err != nil {
			return err
		}
	}
	return nil
}

// listDifference names the points of one list that are not in the other.
func listDifference(got []catalog.Point, want points) (s string) {
	for _, p := range want {
		if !slices.ContainsFunc(got, func(g catalog.Point) bool { return g.ID == p.id }) {
			s += "; " + p.id + " is missing"
		}
	}
	for i := range got {
		if want.find(got[i].ID) == nil {
			s += "; " + got[i].ID + " should not be there"
		}
	}
	return s
}

func (h *history) trash() (mine []catalog.Point, err error) {
	all, err := h.w.cat.TrashList()
	for _, p := range all {
		if p.VM == h.vm {
			mine = append(mine, p)
		}
	}
	return mine, err
}

// settle takes points out of the model whose time in the trash is over and that
// have been collected.
func (h *history) settle() error {
	for _, p := range h.points {
		if !h.expired(p) {
			continue
		}
		if _, err := h.w.cat.Point(p.id); errors.Is(err, catalog.ErrNotFound) {
			h.note("%s has left the trash", p.id)
			h.remove(p.id)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// check compares what the catalog says with the model, and reads n points, at
// random, the newest among them.
func (h *history) check(n int) error {
	if err := h.settle(); err != nil {
		return err
	}
	if err := h.is(h.points); err != nil {
		return err
	}
	if len(h.points) <= n {
		n = len(h.points)
	}
	for i, at := range h.rng.Perm(len(h.points))[:n] {
		if i == 0 {
			at = len(h.points) - 1
		}
		if err := h.checkPoint(h.points[at]); err != nil {
			return err
		}
	}
	return h.checkGone(n)
}

// checkGone looks for points that are gone.
func (h *history) checkGone(n int) error {
	for _, id := range h.gone[max(0, len(h.gone)-n):] {
		if _, err := h.w.cat.Point(id); !errors.Is(err, catalog.ErrNotFound) {
			return fmt.Errorf("point %s was removed and is here: %v", id, err)
		}
		if im, err := h.w.vols.OpenImage(id, "vdb"); !errors.Is(err, catalog.ErrNotFound) {
			if err == nil {
				im.Close()
			}
			return fmt.Errorf("point %s was removed and can be opened: %v", id, err)
		}
	}
	return nil
}

// checkAll reads everything there is.
func (h *history) checkAll() error {
	if err := h.check(len(h.points)); err != nil {
		return err
	}
	for _, p := range h.points {
		if err := h.checkPoint(p); err != nil {
			return err
		}
	}
	for _, s := range h.sessions {
		if err := h.checkSession(s); err != nil {
			return err
		}
	}
	for _, c := range h.clones {
		if err := h.checkClone(c); err != nil {
			return err
		}
	}
	for len(h.readers) > 0 {
		if err := h.closeImage(); err != nil {
			return err
		}
	}
	return h.checkGone(len(h.gone))
}

// revive finds out what became of the sessions in a crash. mayDie says that the
// power failed.
func (h *history) revive(mayDie bool) error {
	if err := h.reviveClones(mayDie); err != nil {
		return err
	}
	found := map[string]volume.Status{}
	for _, st := range h.w.vols.Sessions() {
		if st.VM == h.vm || st.VM == "unknown" {
			found[st.Session] = st
		}
	}
	for _, s := range h.sessions {
		st, ok := found[s.id]
		delete(found, s.id)
		switch {
		case !ok:
			return fmt.Errorf("session %s is lost", s.id)
		case st.State == volume.Open:
			if err := h.dropLost(s, &st, mayDie); err != nil {
				return err
			}
			if err := h.checkSession(s); err != nil {
				return err
			}
			s.clean = s.clean || mayDie
		case st.State == volume.Dead && mayDie && !s.clean:
			h.note("session %s has died", s.id)
			if err := h.w.vols.Abort(s.id); err != nil {
				return err
			}
			h.drop(s)
		default:
			return fmt.Errorf("session %s is %s (%s)", s.id, st.State, st.Reason)
		}
	}
	for id, st := range found { // one whose start was not answered
		if st.State == volume.Open || st.State == volume.Dead {
			if err := h.w.vols.Abort(id); err != nil {
				return err
			}
		}
	}
	return nil
}

// fingerprint is every file outside the databases with a checksum.
func fingerprint(fs *crashfs.FS, dir string, out map[string]string) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		name = path.Join(dir, name)
		info, err := fs.Stat(name)
		switch {
		case err != nil:
			return err
		case !isOurs(name):
		case info.IsDir():
			if err := fingerprint(fs, name, out); err != nil {
				return err
			}
		default:
			f, err := fs.Open(name)
			if err != nil {
				return err
			}
			sum := crc32.NewIEEE()
			if _, err := io.Copy(sum, f); err != nil {
				return err
			}
			f.Close()
			out[name] = fmt.Sprintf("%d bytes, %08x", info.Size(), sum.Sum32())
		}
	}
	return nil
}

func difference(a, b map[string]string) (s string) {
	all := maps.Clone(a)
	maps.Copy(all, b)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if a[name] != b[name] {
			s += fmt.Sprintf("\t%s: %q, then %q\n", name, a[name], b[name])
		}
	}
	return s
}
