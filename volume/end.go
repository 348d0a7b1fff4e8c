package volume

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Abort drops a session: nothing of it is published. Aborting an ended session
// again is not an error, unless it was committed.
func (m *Manager) Abort(id string) error {
	s, err := m.backup(id)
	if err != nil {
		return err
	}
	s.verb.Lock()
	defer s.verb.Unlock()
	switch s.state() {
	case Committed:
		return fmt.Errorf("%w: session %s was committed as point %s; remove that point instead", ErrClosed, id, s.content().Point)
	case Committing:
		return fmt.Errorf("%w: the commit of session %s is undecided; commit it again or restart the server", ErrClosed, id)
	case Aborted, Expired:
		return nil
	}
	return s.end(Aborted)
}

// end closes an open or dead session for good. The caller holds verb.
func (s *session) end(st State) error {
	s.gate.Lock()
	defer s.gate.Unlock()
	if err := s.setState(st, ""); err != nil {
		return fmt.Errorf("end session %s of VM %s: %w", s.file.ID, s.file.VM, err)
	}
	switch st {
	case Aborted:
		s.m.stats.aborted.Add(1)
	case Expired:
		s.m.stats.expired.Add(1)
	}
	err := s.discard()
	s.m.notifyClosed(s, st)
	return err
}

func (m *Manager) notifyClosed(s *session, st State) {
	if f := m.events.Closed; f != nil {
		f(s.file.ID, s.file.VM, st)
	}
}

// Expire ends the open and dead sessions whose time has passed, and forgets
// those that ended long ago. It returns the ids of the former; the caller
// takes leave of their clients.
func (m *Manager) Expire(now time.Time) (expired []string, err error) {
	var errs []error
	for _, s := range m.due(now) {
		s.verb.Lock()
		if st := s.state(); st == Open || st == Dead {
			if err := s.end(Expired); err != nil {
				errs = append(errs, err)
			} else {
				expired = append(expired, s.file.ID)
			}
		}
		s.verb.Unlock()
	}
	return expired, errors.Join(append(errs, m.forget(now))...)
}

// due lists the open and dead sessions whose time has passed.
func (m *Manager) due(now time.Time) (list []*session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.sessions {
		if st := s.state(); !s.file.Clone && (st == Open || st == Dead) && now.After(s.file.Expires) {
			list = append(list, s)
		}
	}
	return list
}

// forget removes the folders of sessions that ended long ago, and of the oldest
// when they are too many.
func (m *Manager) forget(now time.Time) error {
	m.mu.Lock()
	var ended []*session
	for _, s := range m.sessions {
		if !s.ended().IsZero() {
			ended = append(ended, s)
		}
	}
	slices.SortFunc(ended, func(a, b *session) int { return cmp.Compare(a.file.ID, b.file.ID) })
	var old []*session
	for i, s := range ended {
		if now.Sub(s.ended()) > keepClosed || len(ended)-i > maxClosed {
			old = append(old, s)
			delete(m.sessions, s.file.ID)
			for _, d := range s.disks {
				m.unname(d)
			}
		}
	}
	m.mu.Unlock()
	var errs []error
	for _, s := range old {
		errs = append(errs, m.fs.RemoveAll(m.sessionDir(s.file.ID)))
	}
	return errors.Join(errs...)
}

func (s *session) ended() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file.Ended
}
