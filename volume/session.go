package volume

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/mutant"
)

// session is an open backup, or the memory of one that ended.
type session struct {
	m      *Manager
	writer *dedup.Writer // nil once ended

	// gate is held shared by every operation on a disk and exclusively while
	// the session is committed or ended: whoever holds it exclusively knows
	// that nothing is under way.
	gate sync.RWMutex
	// verb serialises commit, abort and expiry.
	verb sync.Mutex

	// saving is held while session.json is replaced, and with what it says what
	// is there: a name, a disk that was added.
	saving sync.Mutex

	mu    sync.Mutex       // guards what follows; never held while a file is written
	file  sessionFile      // changed by replace only; what replace keeps never changes
	disks []*disk          // of file.Disks, in its order; replaced, never changed
	files map[uint64]*file // those with a name, and those still open
	names map[string]*file // those with a name, by each

	space atomic.Int64 // sum of the files' lengths

	dead atomic.Pointer[string] // why, once dead
}

// Status describes a session.
type Status struct {
	Session string            `json:"session"`
	VM      string            `json:"vm"`
	State   State             `json:"state"`
	Reason  string            `json:"reason,omitempty"`
	Point   string            `json:"point,omitempty"` // once committed
	Started time.Time         `json:"started"`
	Expires time.Time         `json:"expires"`
	Labels  map[string]string `json:"labels,omitempty"`
	Manual  bool              `json:"manual,omitempty"`
	Disks   []DiskStatus      `json:"disks"`
	// Clone: it is a clone, and Base the id of the point its disks began as.
	Clone bool         `json:"clone,omitempty"`
	Base  string       `json:"base,omitempty"`
	Files []FileStatus `json:"files,omitempty"` // sorted by name; none once the session ended
	// KeepsFiles: it was started for files. Import is what the start said of the
	// disks that are to be found in them.
	KeepsFiles bool           `json:"keeps_files,omitempty"`
	Import     ImportDefaults `json:"import,omitzero"`
}

// DiskStatus describes one disk of a session; sizes are bytes.
type DiskStatus struct {
	Disk         string       `json:"disk"`
	Mode         catalog.Mode `json:"mode"`
	Parent       string       `json:"parent,omitempty"`
	Branch       bool         `json:"branch,omitempty"` // on purpose not the newest
	Why          string       `json:"why,omitempty"`    // mode auto became a full
	Size         int64        `json:"size"`
	Token        string       `json:"-"`
	Checkpoint   string       `json:"checkpoint,omitempty"`
	WrittenBytes int64        `json:"written_bytes"`
	ZeroedBytes  int64        `json:"zeroed_bytes"`
	NewBytes     int64        `json:"new_bytes"`
	StoredBytes  int64        `json:"stored_bytes"`
	JournalBytes int64        `json:"journal_bytes"` // what the journal takes in the file system now
}

// state is the session's present one.
func (s *session) state() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file.State
}

// usable says whether clients may still write.
func (s *session) usable() error {
	if s.file.Clone {
		return s.usableClone()
	}
	if why := s.dead.Load(); why != nil {
		return fmt.Errorf("%w: %s (VM %s, session %s); abort it and back up again", ErrDead, *why, s.file.VM, s.file.ID)
	}
	if st := s.state(); st != Open {
		return fmt.Errorf("%w: session %s of VM %s is %s", ErrClosed, s.file.ID, s.file.VM, st)
	}
	return nil
}

// working is usable for who holds the gate: the server may have stopped meanwhile.
func (s *session) working() error {
	if err := s.usable(); err != nil {
		return err
	}
	if s.writer == nil {
		return fmt.Errorf("%w: session %s of VM %s goes on when the server has started again", ErrClosed, s.file.ID, s.file.VM)
	}
	return nil
}

// kill makes the session dead for ever, or a clone stale: an acknowledged write
// may be lost. The mark on disk is best effort, since the disk may be what failed.
func (s *session) kill(reason string) {
	if !s.dead.CompareAndSwap(nil, &reason) {
		return
	}
	if s.file.Clone {
		_ = s.sink(Stale, reason)
		return
	}
	_ = s.sink(Dead, reason)
}

// sink says in session.json what kill or a start have found. In memory it is so
// all the same when that fails.
func (s *session) sink(to State, reason string) error {
	s.saving.Lock()
	var err error
	if next := s.content(); next.Ended.IsZero() {
		next.State, next.Reason = to, reason
		err = s.m.save(&next)
		s.replace(&next)
	}
	s.saving.Unlock()
	f := s.m.events.Dead
	if to == Stale {
		f = s.m.events.Stale
	}
	if f != nil {
		f(s.file.ID, s.file.VM, reason)
	}
	return err
}

// status collects what Status tells.
func (s *session) status() Status {
	s.mu.Lock()
	st := Status{
		Session: s.file.ID, VM: s.file.VM, State: s.file.State, Reason: s.file.Reason,
		Started: s.file.Started, Expires: s.file.Expires, Labels: s.file.Labels, Manual: s.file.Manual,
		KeepsFiles: s.file.KeepsFiles, Import: s.file.Import,
		Clone: s.file.Clone, Base: s.file.Base,
	}
	if st.State == Committed {
		st.Point = s.file.Point
	}
	disks := s.disks
	s.mu.Unlock()
	st.Files = s.fileStatus()
	for _, d := range disks {
		c := d.counts()
		st.Disks = append(st.Disks, DiskStatus{
			Disk: d.spec.Disk, Mode: d.spec.Mode, Parent: d.spec.Parent, Size: d.spec.Size,
			Branch: d.spec.Branch, Why: d.spec.Why,
			Token: d.spec.Token, Checkpoint: d.spec.Checkpoint,
			WrittenBytes: c.written, ZeroedBytes: c.zeroed, NewBytes: c.fresh, StoredBytes: c.stored,
			JournalBytes: d.journalBytes(),
		})
	}
	return st
}

// content is what session.json says.
func (s *session) content() sessionFile {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file
}

// replace follows a change of session.json. The caller holds saving.
func (s *session) replace(next *sessionFile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &s.file
	f.State, f.Reason, f.Point, f.Ended, f.Blobs = next.State, next.Reason, next.Point, next.Ended, next.Blobs
	f.BootID, f.Disks, f.Files, f.NextFile = next.BootID, next.Disks, next.Files, next.NextFile
}

// maps are the disks and the files, those too that are open without a name.
func (s *session) maps() []*disk {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.Clone(s.disks)
	for _, f := range s.files {
		if len(f.names) > 0 || !mutant.On("volume/nameless-unmarked") {
			list = append(list, f.d)
		}
	}
	return list
}

// flush makes everything acknowledged so far on some disks and files power-cut
// safe.
func (s *session) flush(list []*disk) error {
	marks := make([]uint64, len(list))
	for i, d := range list {
		if err := d.logModified(); err != nil {
			return err
		}
		marks[i] = d.mark()
	}
	if mutant.On("volume/flush-without-packs") {
		// The journals alone.
	} else if err := s.syncPacks(); err != nil {
		return err
	}
	for i, d := range list {
		if err := d.clean(marks[i]); err != nil {
			return err
		}
	}
	return nil
}

// syncPacks syncs every pack the session depends on. A failed sync may have
// lost data (the kernel drops it and forgets), so the session dies.
func (s *session) syncPacks() error {
	if err := s.writer.Sync(); err != nil {
		s.kill("a pack could not be synced: " + err.Error())
		return err
	}
	return nil
}

// shut flushes and closes an open session that goes on after a restart.
func (s *session) shut() error {
	s.verb.Lock()
	defer s.verb.Unlock()
	s.gate.Lock()
	defer s.gate.Unlock()
	if s.writer == nil {
		return nil
	}
	var err error
	if s.usable() == nil {
		if err = s.flush(s.maps()); err == nil {
			_ = s.countRecords() // on a full disk damage is looked for with less
		}
	} else if s.state() == Stale {
		err = s.saveAgain()
	}
	return errors.Join(err, s.release())
}

// countRecords notes how long the journals are, so that the next start knows
// when one has lost its end. The caller holds the gate.
func (s *session) countRecords() error {
	s.saving.Lock()
	defer s.saving.Unlock()
	next := s.content()
	next.Disks, next.Files = slices.Clone(next.Disks), slices.Clone(next.Files)
	for i, d := range s.disks {
		next.Disks[i].Records = d.mark()
	}
	for i, f := range s.namedFiles() { // both by id
		next.Files[i].Records = f.d.mark()
	}
	if err := s.m.save(&next); err != nil {
		return err
	}
	s.replace(&next)
	return nil
}

// release closes files and gives back lanes. The caller holds the gate.
func (s *session) release() error {
	if s.writer == nil {
		return nil
	}
	var errs []error
	for _, d := range s.maps() {
		errs = append(errs, d.close())
	}
	s.mu.Lock()
	s.m.files.Add(-int64(len(s.files)))
	s.files, s.names = nil, nil
	s.mu.Unlock()
	s.writer.Close()
	s.writer = nil
	return errors.Join(errs...)
}

// Status describes one session, open or ended.
func (m *Manager) Status(id string) (Status, error) {
	s, err := m.find(id)
	if err != nil {
		return Status{}, err
	}
	return s.status(), nil
}

// Sessions describes every backup session remembered, oldest first. Clones has
// the clones.
func (m *Manager) Sessions() []Status { return m.list(false) }

func (m *Manager) list(clones bool) []Status {
	var all []*session
	for _, s := range m.remembered() {
		if s.file.Clone == clones {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *session) int { return cmp.Compare(a.file.ID, b.file.ID) })
	list := make([]Status, len(all))
	for i, s := range all {
		list[i] = s.status()
	}
	return list
}
