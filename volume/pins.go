package volume

import (
	"fmt"
	"sync"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/internal/mutant"
)

// pins count the open readers of points.
type pins struct {
	mu      sync.Mutex
	readers map[string]int // by point
}

func (p *pins) add(point string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readers[point]++
}

func (p *pins) drop(point string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.readers[point]--; p.readers[point] == 0 {
		delete(p.readers, point)
	}
}

func (p *pins) has(point string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.readers[point] > 0
}

// Pinned reports whether anybody still needs the content of a point that may
// have been removed: a reader that has one of its images open, or an open
// session that has it as a parent or compares with it. For a point that is
// removed the answer can only change from yes to no.
func (m *Manager) Pinned(point string) bool {
	return m.pins.has(point) && !mutant.On("volume/reader-unpinned") || len(m.users(point, (*diskFile).names)) > 0
}

// Read reports whether a reader has an image of the point open.
func (m *Manager) Read(point string) bool { return m.pins.has(point) }

// InUse returns the open sessions whose parent is the given point, and the clones
// of it. Their images need it until they are committed or aborted, sealed or
// discarded.
func (m *Manager) InUse(point string) (sessions []string) {
	return m.users(point, (*diskFile).inherits)
}

func (f *diskFile) inherits(point string) bool { return f.Parent == point }
func (f *diskFile) names(point string) bool    { return f.Parent == point || f.Hint == point }

// users are the sessions that may still be committed and have a disk that uses
// the point.
func (m *Manager) users(point string, uses func(*diskFile, string) bool) (sessions []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, s := range m.sessions {
		if !s.undecided() {
			continue
		}
		f := s.content()
		based := f.Import.Parent != "" && f.Import.Parent == point
		for i := range f.Disks {
			based = based || uses(&f.Disks[i], point)
		}
		if based {
			sessions = append(sessions, id)
		}
	}
	return sessions
}

// undecided reports whether the session may still become a point: it is open, or
// its commit is under way or was interrupted. Of a clone it reports whether what
// was written to it must stay, which is until somebody ends it.
func (s *session) undecided() bool {
	st := s.state()
	if s.file.Clone {
		return st == Open || st == Committing || st == Stale || st == Dead
	}
	return (st == Open || st == Committing) && s.dead.Load() == nil
}

// unused refuses to let a point go whose images open sessions are based on.
func (m *Manager) unused(point string) error {
	if users := m.InUse(point); len(users) > 0 && !mutant.On("volume/parent-goes") {
		if s, err := m.find(users[0]); err == nil && s.file.Clone {
			return fmt.Errorf("%w: point %s is what clone %s was made of; seal or discard that first", ErrInUse, point, users[0])
		}
		return fmt.Errorf("%w: point %s is the parent of backup %s, which is open; commit or abort that first", ErrInUse, point, users[0])
	}
	return nil
}

// Remove removes a point for good; [catalog.Catalog.Remove] says how. The error
// wraps ErrInUse when an open session has it as parent. Readers that have an
// image of it open go on.
func (m *Manager) Remove(id string) error {
	return m.letGo(id, m.cat.Remove)
}

// Purge removes a point whose time in the trash is over; [catalog.Catalog.Purge]
// says when that is. Readers that have an image of it open go on.
func (m *Manager) Purge(id string, now time.Time) error {
	return m.letGo(id, func(id string) error { return m.cat.Purge(id, now) })
}

// Trash puts a point into the trash until purge, as Remove removes it.
func (m *Manager) Trash(id string, purge time.Time) error {
	return m.letGo(id, func(id string) error { return m.cat.Trash(id, purge) })
}

// letGo takes a point out of use. No session can begin on it meanwhile.
func (m *Manager) letGo(id string, how func(string) error) error {
	m.points.Lock()
	defer m.points.Unlock()
	if err := m.unused(id); err != nil {
		return err
	}
	return how(id)
}

// Merge merges images of one disk; [catalog.Catalog.Merge] says how. touched
// lists the points whose image of the disk changes or goes; it is asked when
// none of them can go otherwise and no session begins. The error wraps ErrInUse
// when an open session has one of them as parent, or a reader has it open.
func (m *Manager) Merge(r catalog.MergeRequest, touched func() ([]string, error)) (catalog.MergeResult, error) {
	m.points.Lock()
	defer m.points.Unlock()
	points, err := touched()
	if err != nil {
		return catalog.MergeResult{}, err
	}
	for _, id := range points {
		if err := m.unused(id); err != nil {
			return catalog.MergeResult{}, err
		}
		if m.pins.has(id) {
			return catalog.MergeResult{}, fmt.Errorf("%w: an image of point %s is being read; disconnect its readers first", ErrInUse, id)
		}
	}
	return m.cat.Merge(r)
}
