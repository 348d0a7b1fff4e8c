package volume

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/atomicfile"
	"github.com/strongroom-backup/strongroom/internal/readahead"
)

// Options say where sessions live and what they are made from.
type Options struct {
	FS      vfs.FS
	Dir     string // holds one folder per session
	Blocks  *dedup.Store
	Catalog *catalog.Catalog
	Clock   func() time.Time // nil: time.Now
	// ReadAheadBytes bounds what sequential readers of images are read ahead, all of
	// them together; 0: 64 MiB, negative: nothing.
	ReadAheadBytes int64
	// BootID names this boot of the host. Un-flushed writes survive a crash of
	// the server but not another BootID.
	BootID string
	Events Events
}

// Events tell the daemon what it should log. Every field may be nil.
type Events struct {
	// Recovered is called at Open for each session that goes on.
	Recovered func(session, vm string, disks int)
	// Dead is called once when a session can no longer be finished.
	Dead func(session, vm, reason string)
	// Stale is called once when a clone lost writes that were not flushed: it is
	// not served until ResumeClone opens it again.
	Stale func(session, vm, reason string)
	// Closed is called when a session ends: committed, aborted or expired.
	Closed func(session, vm string, s State)
}

// Manager owns the open backup sessions and reads committed images.
type Manager struct {
	fs     vfs.FS
	dir    string
	blocks *dedup.Store
	cat    *catalog.Catalog
	now    func() time.Time
	boot   string
	events Events
	cache  *addrCache
	ahead  *readahead.Budget
	stats  counters
	epochs *epochs
	files  atomic.Int64 // with a journal, of all sessions

	rewrites sync.WaitGroup // of journals, under way

	// Limits that tests make smaller.
	residentChunks int
	maxRetired     int
	rewriteFloor   int64
	ask            atomic.Pointer[func(PlanQuestion) (PlanDecision, error)]

	// points is held shared while a session begins and exclusively while a
	// point goes, so that no session begins on a point that is going.
	points sync.RWMutex
	pins   pins

	mu       sync.Mutex
	sessions map[string]*session
	exports  map[string]*disk // by token, of every session remembered
	former   map[string]*disk // by the tokens it had before its clone was resumed
	closed   bool
}

// OpenManager recovers the sessions in o.Dir, which is made when missing.
// Sessions that may have lost acknowledged writes come back dead.
func OpenManager(o Options) (*Manager, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	m := &Manager{
		fs: o.FS, dir: o.Dir, blocks: o.Blocks, cat: o.Catalog, now: o.Clock, boot: o.BootID, events: o.Events,
		residentChunks: residentChunks, maxRetired: maxRetired, rewriteFloor: rewriteFloor,
		cache:  newAddrCache(o.Catalog.Chunk),
		ahead:  readahead.NewBudget(cmp.Or(o.ReadAheadBytes, readAheadBytes), runtime.GOMAXPROCS(0)),
		epochs: newEpochs(), pins: pins{readers: map[string]int{}},
		sessions: map[string]*session{}, exports: map[string]*disk{}, former: map[string]*disk{},
	}
	if err := m.fs.MkdirAll(m.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make session folder: %w", err)
	}
	// Of its own name, and of the sessions' that a killed process left with the kernel.
	for _, dir := range []string{m.fs.PathDir(m.dir), m.dir} {
		if err := atomicfile.SyncDir(m.fs, dir); err != nil {
			return nil, err
		}
	}
	if err := m.recoverAll(); err != nil {
		return nil, err
	}
	return m, nil
}

// Close flushes every open session, so that it survives even a restart of the
// host, and closes its files. No Disk or Image may be in use.
func (m *Manager) Close() error {
	m.mu.Lock()
	m.closed = true
	all := m.sessions
	m.sessions = map[string]*session{}
	m.mu.Unlock()
	var errs []error
	for _, s := range all {
		errs = append(errs, s.shut())
	}
	m.rewrites.Wait() // each sees that its session has ended
	return errors.Join(errs...)
}

// find returns a session by id.
func (m *Manager) find(id string) (*session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.sessions[id]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("%w: %q", ErrNoSession, id)
}

// add makes a session reachable by its id and its tokens.
func (m *Manager) add(s *session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sessions[s.file.ID] = s
	for _, d := range s.disks {
		m.name(d)
	}
}

// name makes a disk reachable by its token. The caller holds mu.
func (m *Manager) name(d *disk) {
	if d.spec.Token != "" {
		m.exports[d.spec.Token] = d
	}
	for _, t := range d.spec.Former {
		delete(m.exports, t)
		m.former[t] = d
	}
}

// unname is the opposite of name. The caller holds mu.
func (m *Manager) unname(d *disk) {
	delete(m.exports, d.spec.Token)
	for _, t := range d.spec.Former {
		delete(m.former, t)
	}
}

// OpenExport returns the writable disk behind a session's token. The error
// wraps ErrNoSession, ErrDead, ErrStale or ErrClosed.
func (m *Manager) OpenExport(token string) (*Disk, error) {
	m.mu.Lock()
	d, was := m.exports[token], m.former[token]
	m.mu.Unlock()
	if was != nil {
		return nil, was.s.resumed()
	}
	if d == nil {
		return nil, fmt.Errorf("%w behind export %q", ErrNoSession, token)
	}
	if err := d.s.usable(); err != nil {
		return nil, err
	}
	return &Disk{d: d}, nil
}
