package volume

import (
	"errors"
	"fmt"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/atomicfile"
	"github.com/strongroom-backup/strongroom/internal/ids"
)

// DiskSpec names a disk to back up; Size is in bytes.
type DiskSpec struct {
	Name string
	Size int64
}

// StartRequest opens a backup.
type StartRequest struct {
	VM    string
	Disks []DiskSpec
	// Files says that the session is for files: it may begin without disks, and
	// what is stored is compressed later.
	Files bool
	// Mode is full, incremental or auto (also ""): incremental for each disk
	// that has a committed image not larger than it, else full.
	Mode string
	// Parent is the point (a reference or an id) and ParentCheckpoint the
	// checkpoint that the caller's dirty bitmaps start from. When given they
	// must be what the server has as newest, else ErrMismatch.
	Parent           string
	ParentCheckpoint string
	// Branch says that the VM was set back to Parent, which may be older than the
	// newest point: the new images inherit from its images all the same.
	Branch bool
	// Checkpoint is remembered with the new point.
	Checkpoint string
	Manual     bool // the point is made by hand: no limit of a chain takes it
	Labels     map[string]string
	Blobs      []catalog.Blob
	TTL        time.Duration // 0: DefaultTTL
}

// Start opens a session. When it returns, the session survives a power cut.
func (m *Manager) Start(r StartRequest) (Status, error) {
	if err := r.validate(); err != nil {
		return Status{}, err
	}
	for range maxRoomMade {
		st, first, err := m.start(&r)
		if first == nil {
			return st, err
		}
		if err := first(); err != nil {
			return Status{}, fmt.Errorf("start backup of %s: %w", r.VM, err)
		}
	}
	return Status{}, fmt.Errorf("%w: no room could be made for the backup of VM %s; try again", ErrLimit, r.VM)
}

// start opens a session unless something is to be done first, which it returns.
// No point that the session is based on can go meanwhile.
func (m *Manager) start(r *StartRequest) (st Status, first func() error, err error) {
	m.points.RLock()
	defer m.points.RUnlock()
	if err := m.admit(); err != nil {
		return Status{}, nil, err
	}
	disks, parent, first, err := m.plan(r)
	if err != nil || first != nil {
		return Status{}, first, err
	}
	now := m.now().UTC()
	s := &session{m: m, file: sessionFile{
		Format: sessionFormat, ID: ids.New(now), VM: r.VM, State: Open, BootID: m.boot, Manual: r.Manual,
		Started: now, Expires: now.Add(r.TTL), Labels: r.Labels, Blobs: r.Blobs, Disks: disks,
	}}
	s.files, s.names = map[uint64]*file{}, map[string]*file{}
	if r.Files {
		s.file.KeepsFiles, s.file.NextFile = true, 1
		s.file.Import = ImportDefaults{Mode: r.Mode, Parent: parent, ParentCheckpoint: r.ParentCheckpoint, Checkpoint: r.Checkpoint, Branch: r.Branch}
	}
	if err := m.create(s); err != nil {
		return Status{}, nil, errors.Join(fmt.Errorf("start backup of %s: %w", r.VM, err), s.release(),
			m.fs.RemoveAll(m.sessionDir(s.file.ID)))
	}
	m.add(s)
	m.stats.started.Add(1)
	return s.status(), nil, nil
}

// validate checks everything that can be checked without the catalog, and fills
// in defaults.
func (r *StartRequest) validate() error {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("%w: %s", ErrBadRequest, fmt.Sprintf(format, a...))
	}
	const shape = "up to 128 letters, digits, '.', '_' or '-', beginning with a letter or digit"
	switch r.Mode {
	case "":
		r.Mode = "auto"
	case "auto", string(catalog.Full), string(catalog.Incremental):
	default:
		return bad("mode %q; use full, incremental or auto", r.Mode)
	}
	if r.Mode == string(catalog.Full) && (r.Parent != "" || r.ParentCheckpoint != "") {
		return bad("a full backup has no parent; leave the parent out or use mode incremental")
	}
	if r.Branch && r.Parent == "" {
		return bad("a branch begins at a point the VM was set back to; name it as the parent")
	}
	if !ids.IsName(r.VM) {
		return bad("VM name %q; use %s", r.VM, shape)
	}
	if len(r.Disks) == 0 && !r.Files || len(r.Disks) > maxDisks {
		return bad("%d disks; a backup has 1 to %d, unless it is one of files", len(r.Disks), maxDisks)
	}
	seen := map[string]bool{}
	for _, d := range r.Disks {
		switch {
		case !ids.IsName(d.Name):
			return bad("disk name %q; use %s", d.Name, shape)
		case seen[d.Name]:
			return bad("disk %s is named twice", d.Name)
		case d.Size <= 0 || d.Size > maxDiskSize:
			return bad("disk %s of %d bytes; sizes go from 1 byte to 1 PiB", d.Name, d.Size)
		}
		seen[d.Name] = true
	}
	for _, name := range []string{r.Checkpoint, r.ParentCheckpoint} {
		if name != "" && !ids.IsName(name) {
			return bad("checkpoint name %q; use %s", name, shape)
		}
	}
	for k, v := range r.Labels {
		if !ids.IsName(k) || len(v) > maxLabel {
			return bad("label %q; a key is %s, a value at most %d bytes", k, shape, maxLabel)
		}
	}
	if err := catalog.CheckBlobs(r.Blobs); err != nil {
		return bad("%v", err)
	}
	if r.TTL == 0 {
		r.TTL = DefaultTTL
	}
	if r.TTL < time.Second || r.TTL > maxTTL {
		return bad("ttl %v; it may be 1s to %v", r.TTL, maxTTL)
	}
	return nil
}

// admit refuses more open sessions than the server can carry.
func (m *Manager) admit() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	open := 0
	for _, s := range m.sessions {
		if s.usable() == nil || s.file.Clone && s.undecided() {
			open++
		}
	}
	switch {
	case m.closed:
		return fmt.Errorf("%w: the server is stopping", ErrLimit)
	case open >= maxSessions:
		return fmt.Errorf("%w: %d backups and clones are open; commit or abort some", ErrLimit, open)
	}
	return nil
}

// newWriter is what a session stores with: files come as fast as a network
// brings them, and are compressed when there is time.
func (m *Manager) newWriter(files bool) *dedup.Writer {
	if files {
		return m.blocks.NewLaterWriter()
	}
	return m.blocks.NewWriter()
}

// create makes the session's files, durable.
func (m *Manager) create(s *session) error {
	dir := m.sessionDir(s.file.ID)
	if err := m.fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	s.writer = m.newWriter(s.file.KeepsFiles)
	for _, spec := range s.file.Disks {
		d, err := newDisk(s, spec)
		if err != nil {
			return err
		}
		s.disks = append(s.disks, d)
		if d.journal, err = createJournal(m.fs, m.journalPath(s.file.ID, spec.Disk), s.owner(spec.Disk), spec.Size, 0); err != nil {
			return err
		}
	}
	if err := m.save(&s.file); err != nil {
		return err
	}
	return atomicfile.SyncDir(m.fs, m.dir)
}
