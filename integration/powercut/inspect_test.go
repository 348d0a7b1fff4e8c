package powercut

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/volume"
)

// inspect holds an engine that was opened after a cut against the model, and
// settles in the model what was open. mayDie says that sessions with un-flushed
// writes may be dead.
func inspect(e *engine, m *model, mayDie bool) error {
	if err := inspectPoints(e, m); err != nil {
		return err
	}
	return inspectSessions(e, m, mayDie)
}

func inspectPoints(e *engine, m *model) error {
	for _, vm := range vmsOf(e, m) {
		actual, err := pointsOf(e, vm)
		if err != nil {
			return fmt.Errorf("list points: %w", err)
		}
		if err := settlePoints(m, vm, actual); err != nil {
			return fmt.Errorf("points of VM %s: %w", vm, err)
		}
		for _, p := range m.points[vm] {
			if err := whole(e, p, actual[p.id]); err != nil {
				return fmt.Errorf("point %s (%s): %w", p.id, p.key, err)
			}
		}
	}
	for _, id := range m.gone {
		if _, err := e.OpenImage(id, "vdb"); !errors.Is(err, catalog.ErrNotFound) {
			return fmt.Errorf("point %s opens after its removal: %v", id, err)
		}
	}
	return inspectPolicies(e, m)
}

// vmsOf are the VMs that the model knows or the catalog has.
func vmsOf(e *engine, m *model) []string {
	all := map[string]bool{}
	for _, s := range m.sessions {
		all[s.vm] = true
	}
	list, _ := e.cat.Points("")
	for _, p := range list {
		all[p.VM] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// pointsOf are a VM's points, those in the trash too, by id.
func pointsOf(e *engine, vm string) (map[string]catalog.Point, error) {
	live, err := e.cat.Points(vm)
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return nil, err
	}
	trash, err := e.cat.TrashList()
	if err != nil {
		return nil, err
	}
	found := map[string]catalog.Point{}
	for _, p := range live {
		found[p.ID] = p
	}
	for _, p := range trash {
		if p.VM == vm {
			found[p.ID] = p
		}
	}
	return found, nil
}

// settlePoints finds out which of the possible lists a VM's points are.
func settlePoints(m *model, vm string, actual map[string]catalog.Point) (err error) {
	for i, list := range append([][]*point{m.points[vm]}, m.next[vm]...) {
		wrong := fits(actual, list)
		if wrong == nil {
			m.settle(vm, filled(actual, list))
			return nil
		}
		if i > 0 {
			wrong = fmt.Errorf("with call %d got through: %w", i, wrong)
		}
		err = errors.Join(err, wrong)
	}
	return err
}

// settle is became, for what was found. A session whose commit got through is
// committed.
func (m *model) settle(vm string, list []*point) {
	for _, p := range list {
		if s := m.byKey(p.key); s != nil && s.phase == committing {
			s.phase, s.point = committed, p.id
		}
	}
	m.became(vm, list)
}

// fits compares points with a list of the model, but for their content.
func fits(actual map[string]catalog.Point, list []*point) error {
	left := maps.Clone(actual)
	for _, p := range list {
		got, here := left[p.id]
		if p.id == "" {
			got, here = byKey(actual, p.key)
		}
		delete(left, got.ID)
		if !here && p.expires {
			continue
		}
		if !here {
			return fmt.Errorf("point %s (%s) is lost", p.id, p.key)
		}
		if err := p.like(&got); err != nil {
			return fmt.Errorf("point %s (%s) %w", p.id, p.key, err)
		}
	}
	for id, p := range left {
		return fmt.Errorf("point %s (%s) appeared", id, p.Labels["key"])
	}
	return nil
}

func byKey(actual map[string]catalog.Point, key string) (catalog.Point, bool) {
	for _, p := range actual {
		if p.Labels["key"] == key {
			return p, true
		}
	}
	return catalog.Point{}, false
}

// like compares what the catalog says of a point, but for its content.
func (p *point) like(got *catalog.Point) error {
	var disks []string
	for _, im := range got.Images {
		disks = append(disks, im.Disk)
	}
	switch want := slices.Sorted(maps.Keys(p.images)); {
	case !slices.Equal(disks, want):
		return fmt.Errorf("has disks %v, not %v", disks, want)
	case got.Trashed.IsZero() == p.trashed:
		return fmt.Errorf("is in the trash: %v, not %v", !got.Trashed.IsZero(), p.trashed)
	case got.Hold != p.hold:
		return fmt.Errorf("is held by %q, not %q", got.Hold, p.hold)
	case !got.LockedUntil.Equal(p.locked):
		return fmt.Errorf("is locked until %v, not %v", got.LockedUntil, p.locked)
	}
	return nil
}

// filled is the list without what has expired, and with the ids of what was
// being committed.
func filled(actual map[string]catalog.Point, list []*point) (out []*point) {
	for _, p := range list {
		if _, here := actual[p.id]; !here && p.expires {
			continue
		}
		if p.id == "" {
			got, _ := byKey(actual, p.key)
			p = p.with(func(p *point) { p.id = got.ID })
		}
		out = append(out, p)
	}
	return out
}

// inspectPolicies wants each VM's policy to be as it may be.
func inspectPolicies(e *engine, m *model) error {
	for vm, may := range m.policy {
		got, err := e.cat.Policy(vm)
		if err != nil {
			return err
		}
		n := 0
		if got.FullAfter != nil {
			n = *got.FullAfter
		}
		if !slices.Contains(may, n) {
			return fmt.Errorf("VM %s is to have a full after %d, not %v", vm, n, may)
		}
		m.policy[vm] = []int{n}
	}
	return nil
}

// whole checks every image and blob of a point.
func whole(e *engine, p *point, got catalog.Point) error {
	if got.VM != p.vm || len(got.Images) != len(p.images) {
		return fmt.Errorf("is of VM %s with %d disks, want %s with %d", got.VM, len(got.Images), p.vm, len(p.images))
	}
	for name, want := range p.images {
		if err := wholeImage(e, p, &got, name, want); err != nil {
			return fmt.Errorf("disk %s: %w", name, err)
		}
	}
	if err := wholeFile(e, p, &got); err != nil {
		return err
	}
	blob, err := e.cat.Blob(p.id, "domain.xml")
	if err != nil || !bytes.Equal(blob, blobOf(p.key)) {
		return fmt.Errorf("its blob is %q, %v", blob, err)
	}
	return nil
}

func wholeImage(e *engine, p *point, got *catalog.Point, disk string, want content) error {
	if p.trashed {
		im, err := openTrashed(e, got, disk)
		if err != nil {
			return err
		}
		return want.check(im)
	}
	im, err := e.OpenImage(p.id, disk)
	if err != nil {
		return err
	}
	defer im.Close()
	return want.check(im)
}

func inspectSessions(e *engine, m *model, mayDie bool) error {
	found := map[string]volume.Status{}
	for _, st := range e.Sessions() {
		found[st.Session] = st
		if st.State == volume.Dead && st.VM == "unknown" {
			return fmt.Errorf("session %s cannot be read any more: %s", st.Session, st.Reason)
		}
		if s := m.byKey(st.Labels["key"]); s != nil && s.phase == starting {
			if err := m.began(s, st); err != nil {
				return err
			}
			s.clean = false // nobody was told that it is safe
		}
	}
	for _, s := range m.sessions {
		st, here := found[s.id]
		delete(found, s.id)
		if err := inspectSession(e, s, st, here, mayDie); err != nil {
			return fmt.Errorf("session %s (%s): %w", s.id, s.key, err)
		}
	}
	for id, st := range found {
		return fmt.Errorf("session %s (%s) appeared", id, st.Labels["key"])
	}
	return nil
}

func inspectSession(e *engine, s *session, st volume.Status, here, mayDie bool) error {
	was := s.phase
	if was == starting {
		s.phase = aborted // it never came to be
		s.id = "never"
		return nil
	}
	if !here {
		if s.id == "never" {
			return nil
		}
		return fmt.Errorf("is lost; it was %s", was)
	}
	if !follows(was, st.State) {
		return fmt.Errorf("was %s and is %s (%s)", was, st.State, st.Reason)
	}
	s.phase = phase(st.State)
	switch st.State {
	case volume.Committed:
		if st.Point != s.point {
			return fmt.Errorf("is committed as point %q, want %q", st.Point, s.point)
		}
	case volume.Open:
		return accepted(e, s)
	case volume.Dead:
		if was != dead && !s.doomed && (s.clean || !mayDie) {
			return fmt.Errorf("died for no reason: %s", st.Reason)
		}
		return refused(e, s)
	}
	return nil
}

// follows says which states may be found after a cut.
func follows(was phase, is volume.State) bool {
	switch was {
	case open:
		return is == volume.Open || is == volume.Dead
	case committing:
		return is == volume.Open || is == volume.Dead
	case aborting:
		return is == volume.Open || is == volume.Dead || is == volume.Aborted
	}
	return string(is) == string(was)
}

// accepted checks that a session that goes on has every acknowledged write.
func accepted(e *engine, s *session) error {
	for _, d := range s.disks {
		x, err := e.OpenExport(d.token)
		if err != nil {
			return err
		}
		if err := d.want.check(x); err != nil {
			return fmt.Errorf("disk %s: %w", d.name, err)
		}
	}
	return acceptedFile(e, s)
}

// refused checks that a dead session lets nobody in and cannot be committed.
func refused(e *engine, s *session) error {
	for _, d := range s.disks {
		if _, err := e.OpenExport(d.token); !errors.Is(err, volume.ErrDead) {
			return fmt.Errorf("is dead, but export %s says %v", d.name, err)
		}
	}
	if _, err := e.Commit(s.id); !errors.Is(err, volume.ErrDead) {
		return fmt.Errorf("is dead, but its commit says %v", err)
	}
	return nil
}
