package volume

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
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
	if err := m.admit(); err != nil {
		return Status{}, err
	}
	disks, err := m.plan(&r)
	if err != nil {
		return Status{}, err
	}
	now := m.now().UTC()
	s := &session{m: m, file: sessionFile{
		Format: sessionFormat, ID: ids.New(now), VM: r.VM, State: Open, BootID: m.boot,
		Started: now, Expires: now.Add(r.TTL), Labels: r.Labels, Blobs: r.Blobs, Disks: disks,
	}}
	if err := m.create(s); err != nil {
		return Status{}, errors.Join(fmt.Errorf("start backup of %s: %w", r.VM, err), s.release(),
			m.fs.RemoveAll(m.sessionDir(s.file.ID)))
	}
	m.add(s)
	m.stats.started.Add(1)
	return s.status(), nil
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
	if !ids.IsName(r.VM) {
		return bad("VM name %q; use %s", r.VM, shape)
	}
	if len(r.Disks) == 0 || len(r.Disks) > maxDisks {
		return bad("%d disks; a backup has 1 to %d", len(r.Disks), maxDisks)
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
		if s.usable() == nil {
			open++
		}
	}
	switch {
	case m.closed:
		return fmt.Errorf("%w: the server is stopping", ErrLimit)
	case open >= maxSessions:
		return fmt.Errorf("%w: %d backups are open; commit or abort some", ErrLimit, open)
	}
	return nil
}

// plan decides each disk's mode and parent.
func (m *Manager) plan(r *StartRequest) ([]diskFile, error) {
	want := ""
	if r.Parent != "" {
		p, err := m.parentPoint(r.VM, r.Parent)
		if err != nil {
			return nil, err
		}
		want = p
	}
	var disks []diskFile
	for _, d := range r.Disks {
		f, err := m.planDisk(r, d, want)
		if err != nil {
			return nil, err
		}
		disks = append(disks, f)
	}
	return disks, nil
}

// parentPoint turns the caller's idea of the parent into a point id of the VM.
func (m *Manager) parentPoint(vm, text string) (string, error) {
	ref, err := catalog.ParseRef(text)
	if err != nil {
		return "", fmt.Errorf("%w: parent %q: %v", ErrBadRequest, text, err)
	}
	p, err := m.cat.Resolve(ref)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		return "", fmt.Errorf("%w: parent %q is not here: %v; %s", ErrMismatch, text, err, m.newest(vm))
	case err != nil:
		return "", err
	case p.VM != vm:
		return "", fmt.Errorf("%w: parent %s is a point of VM %s, not of %s", ErrMismatch, p.ID, p.VM, vm)
	}
	return p.ID, nil
}

// newest tells what the server has of a VM, for error messages.
func (m *Manager) newest(vm string) string {
	points, err := m.cat.Points(vm)
	if err != nil || len(points) == 0 {
		return "the server has no point of VM " + vm
	}
	p := points[len(points)-1]
	return fmt.Sprintf("the newest point of VM %s is %s of %s", vm, p.ID, p.Time.Format(time.RFC3339))
}

// planDisk decides one disk's mode; want is the parent point the caller named.
func (m *Manager) planDisk(r *StartRequest, d DiskSpec, want string) (diskFile, error) {
	f := diskFile{Disk: d.Name, Size: d.Size, Mode: catalog.Full, Token: ids.Token(), Checkpoint: r.Checkpoint}
	latest, found, err := m.cat.Latest(r.VM, d.Name)
	if err != nil {
		return f, err
	}
	if found {
		f.Hint = latest.ID
	}
	if r.Mode == string(catalog.Full) {
		return f, nil
	}
	if why := mismatch(r, d, want, latest, found); why != "" {
		return f, fmt.Errorf("%w: disk %s of VM %s: %s", ErrMismatch, d.Name, r.VM, why)
	}
	if !found || imageOf(latest, d.Name).Size > d.Size {
		return f, nil // auto falls back to a full backup
	}
	f.Mode, f.Parent = catalog.Incremental, latest.ID
	return f, nil
}

// mismatch says why the caller's idea of the disk's parent does not fit; "" when
// it does.
func mismatch(r *StartRequest, d DiskSpec, want string, latest catalog.Point, found bool) string {
	named := want != "" || r.ParentCheckpoint != ""
	strict := named || r.Mode == string(catalog.Incremental)
	if !found {
		// A disk added since the parent point starts with a full backup.
		if strict && !(r.Mode == "auto" && want != "") {
			return "the server has no image of it; start with mode full or auto"
		}
		return ""
	}
	img := imageOf(latest, d.Name)
	has := fmt.Sprintf("the server's newest image is point %s of %s, %d bytes", latest.ID, latest.Time.Format(time.RFC3339), img.Size)
	if img.Checkpoint != "" {
		has += ", checkpoint " + img.Checkpoint
	}
	switch {
	case want != "" && want != latest.ID:
		return fmt.Sprintf("parent %s was named, but %s", want, has)
	case r.ParentCheckpoint != "" && r.ParentCheckpoint != img.Checkpoint:
		return fmt.Sprintf("parent checkpoint %s was named, but %s", r.ParentCheckpoint, has)
	case strict && img.Size > d.Size:
		return fmt.Sprintf("it has %d bytes now, but %s; a disk that shrank needs mode full", d.Size, has)
	}
	return ""
}

func imageOf(p catalog.Point, disk string) catalog.Image {
	i := slices.IndexFunc(p.Images, func(im catalog.Image) bool { return im.Disk == disk })
	if i < 0 {
		return catalog.Image{}
	}
	return p.Images[i]
}

// create makes the session's files, durable.
func (m *Manager) create(s *session) error {
	dir := m.sessionDir(s.file.ID)
	if err := m.fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	s.writer = m.blocks.NewWriter()
	for _, spec := range s.file.Disks {
		d, err := newDisk(s, spec)
		if err != nil {
			return err
		}
		s.disks = append(s.disks, d)
		if d.journal, err = createJournal(m.fs, m.journalPath(s.file.ID, spec.Disk), spec.Size); err != nil {
			return err
		}
	}
	if err := m.save(&s.file); err != nil {
		return err
	}
	return atomicfile.SyncDir(m.fs, m.dir)
}
