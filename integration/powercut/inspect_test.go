package powercut

import (
	"bytes"
	"errors"
	"fmt"

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
	list, err := e.cat.Points("")
	if err != nil {
		return fmt.Errorf("list points: %w", err)
	}
	found := map[string]catalog.Point{}
	for _, p := range list {
		found[p.ID] = p
	}
	for _, p := range m.points {
		got, here := found[p.id]
		delete(found, p.id)
		if err := inspectPoint(e, p, got, here); err != nil {
			return fmt.Errorf("point %s (%s): %w", p.id, p.key, err)
		}
	}
	for id, got := range found {
		s := m.byKey(got.Labels["key"])
		if s == nil || s.phase != committing {
			return fmt.Errorf("point %s (%s) appeared, which nobody was committing", id, got.Labels["key"])
		}
		s.phase, s.point = committed, id
		p := s.pointOf(id)
		m.points = append(m.points, p)
		if err := inspectPoint(e, p, got, true); err != nil {
			return fmt.Errorf("point %s (%s), whose commit was under way: %w", id, p.key, err)
		}
	}
	return nil
}

func inspectPoint(e *engine, p *point, got catalog.Point, here bool) error {
	switch p.phase {
	case removed:
		if here {
			return errors.New("is back after its removal")
		}
		_, err := e.OpenImage(p.id, "vdb")
		if !errors.Is(err, catalog.ErrNotFound) {
			return fmt.Errorf("its image opens after its removal: %v", err)
		}
		return nil
	case removing:
		p.phase = removed
		if !here {
			return nil
		}
		p.phase = committed
	}
	if !here {
		return errors.New("is lost")
	}
	return whole(e, p, got)
}

// whole checks every image and blob of a point.
func whole(e *engine, p *point, got catalog.Point) error {
	if got.VM != p.vm || len(got.Images) != len(p.images) {
		return fmt.Errorf("is of VM %s with %d disks, want %s with %d", got.VM, len(got.Images), p.vm, len(p.images))
	}
	for name, want := range p.images {
		im, err := e.OpenImage(p.id, name)
		if err != nil {
			return err
		}
		if err := want.check(im); err != nil {
			return fmt.Errorf("disk %s: %w", name, err)
		}
	}
	blob, err := e.cat.Blob(p.id, "domain.xml")
	if err != nil || !bytes.Equal(blob, blobOf(p.key)) {
		return fmt.Errorf("its blob is %q, %v", blob, err)
	}
	return nil
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
	return nil
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
