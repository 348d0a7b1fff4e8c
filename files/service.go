package files

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/tier"
	"github.com/strongroom-backup/strongroom/volume"
)

// Options say what the trees are made from. Volumes, Catalog and Blocks are needed.
type Options struct {
	Volumes *volume.Manager
	Catalog *catalog.Catalog
	Blocks  *dedup.Store
	// Usage tells the space, Free being what backups may still write; nil or
	// tier.ErrUsageUnknown: statfs says that there is plenty.
	Usage func() (tier.Usage, error)
	// Reserve is taken off Usage's Free, in bytes.
	Reserve uint64
	Clock   func() time.Time // nil: time.Now
	Events  Events
}

// Events tell the daemon what it should log. Every field may be nil.
type Events struct {
	// Started is called when a user's first file opened a backup session.
	Started func(session, vm, user string)
	// Committed is called when a user's rename committed his session.
	Committed func(user string, r volume.Receipt)
	// CommitFailed is called when a user's rename was to commit his session and
	// could not. The session goes on.
	CommitFailed func(session, vm, user string, err error)
	// Imported is called for each file that became an image's content, before
	// the session is committed.
	Imported func(session, vm, disk, file string, size int64, took time.Duration)
}

// Service makes the trees. All methods may be called concurrently.
type Service struct {
	o      Options
	now    func() time.Time
	pieces *pieces
	stores chan struct{} // who is storing a piece
	views  *viewCache

	cleaning sync.WaitGroup // ends of sessions under way
	ctx      context.Context
	cancel   context.CancelFunc // by Close

	loading  sync.Mutex // one folder at a time is made from a session
	mu       sync.Mutex // the tables; a leaf
	sessions map[string]*folder
	users    map[userVM]*folder
	accounts map[string]*account

	stats counters
}

// userVM names the folder of a standing user for one of his VMs.
type userVM struct{ user, vm string }

// New makes a service.
func New(o Options) *Service {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	s := &Service{
		o: o, now: o.Clock, pieces: newPieces(maxPieces), stores: make(chan struct{}, max(4, runtime.GOMAXPROCS(0))),
		views:    newViewCache(idleViewBytes, maxViewBytes),
		sessions: map[string]*folder{}, users: map[userVM]*folder{}, accounts: map[string]*account{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Close ends commits that renames began, stores what was gathered, and lets
// nothing be written any more. Then volume may be closed.
func (s *Service) Close() {
	s.cancel()
	s.mu.Lock()
	folders := slices.AppendSeq(slices.Collect(maps.Values(s.sessions)), maps.Values(s.users))
	s.mu.Unlock()
	for _, f := range folders {
		f.verb.Lock()                                                               // a commit is over
		_, _ = f.freeze(fmt.Errorf("%w: the server is stopping", fs.ErrPermission)) // a write that fails was never promised
		f.verb.Unlock()
	}
	s.cleaning.Wait()
}

// Release makes known that a session has ended, in whatever way, or is dead:
// handles of its files fail from now on, and its user's folder is empty. It may
// be called from volume's Events, and again.
func (s *Service) Release(session string) {
	s.mu.Lock()
	f := s.sessions[session]
	s.mu.Unlock()
	if f != nil {
		s.drop(f, session, s.why(f, session))
	}
}

// why says how a session ended.
func (s *Service) why(f *folder, session string) error {
	st, err := s.o.Volumes.Status(session)
	switch {
	case err != nil:
		return err
	case st.State == volume.Committed:
		return fmt.Errorf("%w: backup session %s of VM %s was committed as point %s; its files are below /restore now",
			volume.ErrClosed, session, f.vm, st.Point)
	case st.State == volume.Dead:
		return fmt.Errorf("%w: backup session %s of VM %s: %s; abort it and back up again", volume.ErrDead, session, f.vm, st.Reason)
	}
	return fmt.Errorf("%w: backup session %s of VM %s is %s; begin a new one", volume.ErrClosed, session, f.vm, st.State)
}

// drop takes a folder out of the tables.
func (s *Service) drop(f *folder, session string, why error) {
	s.mu.Lock()
	if s.sessions[session] == f {
		delete(s.sessions, session)
	}
	if k := (userVM{f.user, f.vm}); s.users[k] == f {
		delete(s.users, k)
	}
	s.mu.Unlock()
	f.end(why)
}

// enlist makes a folder known by its session.
func (s *Service) enlist(f *folder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[f.session] = f
}

// folderOf returns the tree of a session's files.
func (s *Service) folderOf(session string) (*folder, error) {
	s.loading.Lock() // one folder for a session, whoever asks
	defer s.loading.Unlock()
	s.mu.Lock()
	f := s.sessions[session]
	s.mu.Unlock()
	if f != nil {
		return f, nil
	}
	st, err := s.o.Volumes.Status(session)
	if err != nil {
		return nil, err
	}
	user := st.Labels[userLabel]
	f = newFolder(s, st.VM, user, s.account(user))
	if err := f.load(session); err != nil {
		return nil, err
	}
	s.enlist(f)
	if st, err := s.o.Volumes.Status(session); err != nil || st.State != volume.Open { // ended before anybody knew of f
		s.drop(f, session, s.why(f, session))
	}
	return f, nil
}

// counters are what Stats tells.
type counters struct {
	Writes, WrittenBytes, Reads, ReadBytes atomic.Uint64
	Imports, ImportErrors, ImportedBytes   atomic.Uint64
	Commits, CommitErrors                  atomic.Uint64
	Handles                                atomic.Int64
}

func (c *counters) read(n int) {
	c.Reads.Add(1)
	c.ReadBytes.Add(uint64(n))
}

func (c *counters) wrote(n int) {
	c.Writes.Add(1)
	c.WrittenBytes.Add(uint64(n))
}

// Stats counts what happened since the server started; Handles, Folders, Pieces
// and ViewBytes are the present.
type Stats struct {
	Writes, WrittenBytes uint64 // of files in sessions
	Reads, ReadBytes     uint64 // of everything
	Imports              uint64 // files that became images
	ImportErrors         uint64
	ImportedBytes        uint64 // sizes of the images
	Commits              uint64 // sessions for files
	CommitErrors         uint64
	Handles              int64
	Folders              int   // sessions' folders known
	Pieces               int   // MiB of writes gathered and not stored yet
	ViewBytes            int64 // tables of virtual files
}

// Stats is cheap enough for every scrape.
func (s *Service) Stats() Stats {
	s.mu.Lock()
	folders := len(s.sessions)
	s.mu.Unlock()
	c := &s.stats
	return Stats{
		Writes: c.Writes.Load(), WrittenBytes: c.WrittenBytes.Load(), Reads: c.Reads.Load(), ReadBytes: c.ReadBytes.Load(),
		Imports: c.Imports.Load(), ImportErrors: c.ImportErrors.Load(), ImportedBytes: c.ImportedBytes.Load(),
		Commits: c.Commits.Load(), CommitErrors: c.CommitErrors.Load(), Handles: c.Handles.Load(),
		Folders: folders, Pieces: s.pieces.inUse(), ViewBytes: s.views.bytes(),
	}
}
