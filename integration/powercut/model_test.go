package powercut

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// phase is how far the driver has come with a session.
type phase string

const (
	starting   phase = "starting" // called, not returned
	open       phase = "open"
	committing phase = "committing"
	committed  phase = "committed"
	aborting   phase = "aborting"
	aborted    phase = "aborted"
	dead       phase = "dead"
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
	filed       bool // it has the file of its key, from which a disk is made when it is committed
}

type disk struct {
	name, token string
	want        content
}

// point is a recovery point as the client knows it. It is never changed, but
// replaced by another.
type point struct {
	key, id, vm string // id is empty while the commit has not returned
	images      map[string]content
	filed       bool // it has the file of its key
	trashed     bool
	expires     bool // from the trash, by itself
	hold        string
	locked      time.Time
}

// with is a changed copy.
func (p *point) with(change func(*point)) *point {
	n := *p
	change(&n)
	return &n
}

// protected points must not go.
func (p *point) protected() bool { return p.hold != "" || !p.locked.IsZero() }

// model is what the engine has promised. A call that changes a VM's points has
// two lists of them while it is under way, and once it has failed: before and
// after. Each is whole; a mixture is an error.
type model struct {
	mu       sync.Mutex
	sessions []*session
	points   map[string][]*point   // by VM, those in the trash too, oldest first
	next     map[string][][]*point // by VM: if a call under way, or one that failed, gets through
	policy   map[string][]int      // by VM: full-after as it may be
	gone     []string              // points that were removed
}

func newModel() *model {
	return &model{points: map[string][]*point{}, next: map[string][][]*point{}, policy: map[string][]int{}}
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
	c := newModel()
	for _, s := range m.sessions {
		n := *s
		n.disks = nil
		for _, d := range s.disks {
			e := *d
			n.disks = append(n.disks, &e)
		}
		c.sessions = append(c.sessions, &n)
	}
	c.points, c.next, c.policy, c.gone = maps.Clone(m.points), maps.Clone(m.next), maps.Clone(m.policy), slices.Clone(m.gone)
	return c
}

// pointOf makes the point a session becomes.
func (s *session) pointOf(id string) *point {
	p := &point{key: s.key, id: id, vm: s.vm, images: map[string]content{}}
	for _, d := range s.disks {
		p.images[d.name] = d.want
	}
	if s.filed {
		p.filed, p.images[fileDisk] = true, contentOf(fileOf(s.key))
	}
	return p
}

// find is a point by its id.
func (m *model) find(id string) *point {
	for _, list := range m.points {
		for _, p := range list {
			if p.id == id {
				return p
			}
		}
	}
	return nil
}

// all are the points of all VMs.
func (m *model) all() (list []*point) {
	for _, vm := range slices.Sorted(maps.Keys(m.points)) {
		list = append(list, m.points[vm]...)
	}
	return list
}

// latest is the newest committed content of a VM's disk.
func (m *model) latest(vm, name string) (c content, found bool) {
	for _, p := range slices.Backward(m.points[vm]) {
		if im, ok := p.images[name]; ok && !p.trashed {
			return im, true
		}
	}
	return content{}, false
}

// propose says what a VM's points are if the call under way gets through.
func (m *model) propose(vm string, next []*point) {
	m.set(func() { m.next[vm] = append(slices.Clip(m.next[vm]), next) })
}

// accept says that it did.
func (m *model) accept(vm string) {
	m.set(func() { m.became(vm, m.next[vm][len(m.next[vm])-1]) })
}

// became settles a VM's points; those that are not in the list are gone. The lock is held, or nobody else has the model.
func (m *model) became(vm string, list []*point) {
	for _, p := range m.points[vm] {
		if !slices.ContainsFunc(list, func(q *point) bool { return q.id == p.id }) {
			m.gone = append(m.gone, p.id)
		}
	}
	m.points[vm] = list
	delete(m.next, vm)
}

// replaced is the list with p in the place of the point of its id, or without
// that point when p is nil.
func replaced(list []*point, id string, p *point) (out []*point) {
	for _, q := range list {
		switch {
		case q.id != id:
			out = append(out, q)
		case p != nil:
			out = append(out, p)
		}
	}
	return out
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

// doomAll says that something failed which any session may have died of.
func (m *model) doomAll() {
	m.set(func() {
		for _, s := range m.sessions {
			s.doomed = true
		}
	})
}
