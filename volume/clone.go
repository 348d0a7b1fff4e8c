package volume

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/internal/ids"
)

// CloneRequest says what a clone is made of.
type CloneRequest struct {
	Ref    string            // VM[/DISK][@POINT], or a point's id
	Disks  []string          // none: all of the point, or the one in Ref
	Labels map[string]string // of the clone, and of the point it is sealed as
}

// CreateClone makes writable disks over the images of a point. They are durable
// when it returns, and stay until the clone is sealed or discarded; so does the
// point. The error wraps ErrBadRequest, ErrLimit, or catalog.ErrNotFound, also
// when the point is in the trash.
func (m *Manager) CreateClone(r CloneRequest) (Status, error) {
	ref, err := r.validate()
	if err != nil {
		return Status{}, err
	}
	m.points.RLock() // the point does not go before the clone is there
	defer m.points.RUnlock()
	if err := m.admitClone(); err != nil {
		return Status{}, err
	}
	p, err := m.cat.Resolve(ref)
	if err != nil {
		return Status{}, fmt.Errorf("make a clone: %w", err)
	}
	disks, err := m.cloneDisks(&p, r.Disks)
	if err != nil {
		return Status{}, err
	}
	now := m.now().UTC()
	s := &session{m: m, file: sessionFile{
		Format: cloneFormat, ID: ids.New(now), VM: p.VM, State: Open, BootID: m.boot, Manual: true,
		Started: now, Labels: r.Labels, Disks: disks, Clone: true, Base: p.ID,
	}}
	if err := m.create(s); err != nil {
		return Status{}, errors.Join(fmt.Errorf("make a clone of point %s of VM %s: %w", p.ID, p.VM, err), s.release(),
			m.fs.RemoveAll(m.sessionDir(s.file.ID)))
	}
	m.add(s)
	m.stats.cloned.Add(1)
	return s.status(), nil
}

// validate reads the reference and completes Disks.
func (r *CloneRequest) validate() (catalog.Ref, error) {
	ref, err := catalog.ParseRef(r.Ref)
	switch {
	case err != nil:
		return ref, fmt.Errorf("%w: %w", ErrBadRequest, err)
	case len(r.Disks) > maxDisks:
		return ref, fmt.Errorf("%w: %d disks; a point has at most %d", ErrBadRequest, len(r.Disks), maxDisks)
	case ref.Disk != "" && len(r.Disks) == 0:
		r.Disks = []string{ref.Disk}
	case ref.Disk != "" && !slices.Contains(r.Disks, ref.Disk):
		return ref, fmt.Errorf("%w: %s names disk %s, which is not among the disks %s", ErrBadRequest, r.Ref, ref.Disk, strings.Join(r.Disks, ", "))
	}
	for i, d := range r.Disks {
		if slices.Contains(r.Disks[:i], d) {
			return ref, fmt.Errorf("%w: disk %s is named twice", ErrBadRequest, d)
		}
	}
	for k, v := range r.Labels {
		if !ids.IsName(k) || len(v) > maxLabel {
			return ref, fmt.Errorf("%w: label %q; a value has at most %d bytes", ErrBadRequest, k, maxLabel)
		}
	}
	return ref, nil
}

// admitClone refuses more clones than the server can carry.
func (m *Manager) admitClone() error {
	if err := m.admit(); err != nil {
		return err
	}
	n := 0
	for _, s := range m.remembered() {
		if s.file.Clone && s.undecided() {
			n++
		}
	}
	if n >= maxClones {
		return fmt.Errorf("%w: there are %d clones; seal or discard some", ErrLimit, n)
	}
	return nil
}

// cloneDisks are the disks of a clone of a point: those named, or all.
func (m *Manager) cloneDisks(p *catalog.Point, names []string) (disks []diskFile, err error) {
	if len(names) == 0 {
		for _, im := range p.Images {
			names = append(names, im.Disk)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%w: point %s of VM %s has no disks", ErrBadRequest, p.ID, p.VM)
	}
	for _, name := range names {
		im := imageOf(*p, name)
		if im.Disk == "" {
			return nil, fmt.Errorf("point %s of VM %s has no disk %s: %w", p.ID, p.VM, name, catalog.ErrNotFound)
		}
		newest, _, err := m.cat.Latest(p.VM, name)
		if err != nil {
			return nil, err
		}
		disks = append(disks, diskFile{Disk: name, Size: im.Size, Mode: catalog.Incremental, Parent: p.ID, Hint: p.ID,
			Branch: newest.ID != p.ID, Token: ids.Token()})
	}
	return disks, nil
}

// SealClone commits a clone as a new point of its VM whose parent is the point it
// was made of, with that point's blobs. When it returns nil the point survives a
// power cut, and the clone is gone. Sealing a sealed clone again returns the same
// receipt. It waits for operations under way and lets no new ones in; the caller
// has taken leave of the clone's clients before.
func (m *Manager) SealClone(id string) (Receipt, error) {
	s, err := m.clone(id)
	if err != nil {
		return Receipt{}, err
	}
	return m.publish(s)
}

// foldAll merges all raw extents of a clone and flushes it, so that sealing it
// changes no map that its journals do not know of.
func (s *session) foldAll() error {
	for _, d := range s.disks {
		if err := d.foldAll(); err != nil {
			return err
		}
	}
	return s.flush(s.maps())
}

// foldAll merges on all cores, since nobody else uses the disk.
func (d *disk) foldAll() error {
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, index := range d.touched() {
		blocks, patches, raw := d.patchesOf(index)
		for b, list := range patches {
			g.Go(func() error {
				c, m, err := d.merge(index, b, blocks[b], list, raw)
				if err != nil {
					return err
				}
				return d.logOnly(func() error { return d.logMerged(c, m) })
			})
		}
	}
	return g.Wait()
}

// patchesOf is a copy of what lies over a chunk, and beneath.
func (d *disk) patchesOf(index uint32) (blocks addrs, patches map[uint16][]patch, raw io.ReaderAt) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.chunks[index]; len(c.patches) > 0 {
		return *c.blocks, maps.Clone(c.patches), d.journal.file
	}
	return blocks, nil, nil
}

// blobsOf are the blobs of a point.
func (m *Manager) blobsOf(point string) (list []catalog.Blob, err error) {
	p, err := m.cat.Point(point)
	if err != nil {
		return nil, err
	}
	for _, b := range p.Blobs {
		data, err := m.cat.Blob(point, b.Name)
		if err != nil {
			return nil, err
		}
		list = append(list, catalog.Blob{Name: b.Name, Data: data})
	}
	return list, nil
}

// DiscardClone drops a clone and all that was written to it. Discarding it again
// is not an error, unless it was sealed.
func (m *Manager) DiscardClone(id string) error {
	s, err := m.clone(id)
	if err != nil {
		return err
	}
	s.verb.Lock()
	defer s.verb.Unlock()
	if err := s.lookForPoint(); err != nil {
		return err
	}
	switch s.state() {
	case Committed:
		return fmt.Errorf("%w: clone %s was sealed as point %s; remove that point instead", ErrClosed, id, s.content().Point)
	case Committing:
		return fmt.Errorf("%w: whether clone %s was sealed is undecided; seal it again or restart the server", ErrClosed, id)
	case Aborted:
		return nil
	}
	return s.end(Aborted)
}

// Clones describes every clone remembered, oldest first.
func (m *Manager) Clones() []Status { return m.list(true) }

// clone is a session that is a clone.
func (m *Manager) clone(id string) (*session, error) {
	s, err := m.find(id)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: there is no clone %q", ErrNoSession, id)
	case !s.file.Clone:
		return nil, fmt.Errorf("%w: %s is a backup of VM %s, not a clone; commit or abort it", ErrBadRequest, id, s.file.VM)
	}
	return s, nil
}

// backup is a session that is none.
func (m *Manager) backup(id string) (*session, error) {
	s, err := m.find(id)
	if err == nil && s.file.Clone {
		err = fmt.Errorf("%w: %s is a clone of VM %s, not a backup; seal or discard it", ErrBadRequest, id, s.file.VM)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Clone reports whether the disk is one of a clone.
func (x *Disk) Clone() bool { return x.d.clone != nil }
