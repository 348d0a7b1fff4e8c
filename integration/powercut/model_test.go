package powercut

import (
	"maps"
	"slices"
	"sync"
)

// phase is how far the driver has come with a session or a point.
type phase string

const (
	starting   phase = "starting" // called, not returned
	open       phase = "open"
	committing phase = "committing"
	committed  phase = "committed"
	aborting   phase = "aborting"
	aborted    phase = "aborted"
	dead       phase = "dead"
	removing   phase = "removing"
	removed    phase = "removed"
)

// session is a backup as the client knows it. key is a label of the session
// and of its point, by which a call without an answer is found again.
type session struct {
	key, id, vm string
	phase       phase
	clean       bool // everything acknowledged was flushed since, and nothing is under way
	doomed      bool // a call failed in a way that may have killed it
	point       string
	disks       []*disk
}

type disk struct {
	name, token string
	want        content
}

// point is a recovery point as the client knows it.
type point struct {
	key, id, vm string
	phase       phase // committed, removing, removed
	images      map[string]content
}

// model is what the engine has promised.
type model struct {
	mu       sync.Mutex
	sessions []*session
	points   []*point
}

// set changes the model.
func (m *model) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// snapshot is an independent copy.
func (m *model) snapshot() *model {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &model{}
	for _, s := range m.sessions {
		n := *s
		n.disks = nil
		for _, d := range s.disks {
			e := *d
			n.disks = append(n.disks, &e)
		}
		c.sessions = append(c.sessions, &n)
	}
	for _, p := range m.points {
		n := *p
		n.images = maps.Clone(p.images)
		c.points = append(c.points, &n)
	}
	return c
}

// pointOf makes the point a session becomes.
func (s *session) pointOf(id string) *point {
	p := &point{key: s.key, id: id, vm: s.vm, phase: committed, images: map[string]content{}}
	for _, d := range s.disks {
		p.images[d.name] = d.want
	}
	return p
}

// latest is the newest committed content of a VM's disk.
func (m *model) latest(vm, name string) (c content, found bool) {
	for _, p := range slices.Backward(m.points) {
		if im, ok := p.images[name]; ok && p.vm == vm && p.phase == committed {
			return im, true
		}
	}
	return content{}, false
}

// byKey finds a session.
func (m *model) byKey(key string) *session {
	for _, s := range m.sessions {
		if s.key == key {
			return s
		}
	}
	return nil
}
