package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/mutant"
)

// DiskImport is a disk that arrived as a file; Size is in bytes. The other fields
// are those of StartRequest; those left empty are as Start said.
type DiskImport struct {
	Disk             string
	Size             int64
	Mode             string
	Parent           string
	ParentCheckpoint string
	Checkpoint       string
	Branch           bool
	Source           string // name of the file that is understood as this disk; "": none
}

// ImportDefaults is what Start said of the disks of a session for files. Parent
// is a point's id.
type ImportDefaults struct {
	Mode             string `json:"mode,omitempty"`
	Parent           string `json:"parent,omitempty"`
	ParentCheckpoint string `json:"parent_checkpoint,omitempty"`
	Checkpoint       string `json:"checkpoint,omitempty"`
	Branch           bool   `json:"branch,omitempty"`
}

// AddDisk adds a disk to a session for files, empty or inheriting as Start
// decides it. It is durable, but not kept when the server restarts before the
// session was committed: then it is as if it had never been added.
func (m *Manager) AddDisk(session string, r DiskImport) (*Disk, error) {
	s, err := m.keeper(session)
	if err != nil {
		return nil, err
	}
	want := s.request(&r)
	if err := want.validate(); err != nil {
		return nil, err
	}
	for range maxRoomMade {
		x, first, err := s.addDisk(&want, &r)
		if first == nil {
			return x, err
		}
		if err := first(); err != nil {
			return nil, fmt.Errorf("add disk %s to backup %s: %w", r.Disk, session, err)
		}
	}
	return nil, fmt.Errorf("%w: no room could be made for disk %s of VM %s; try again", ErrLimit, r.Disk, s.file.VM)
}

// request is the start of a backup of that disk alone.
func (s *session) request(r *DiskImport) StartRequest {
	d := s.file.Import
	q := StartRequest{VM: s.file.VM, Disks: []DiskSpec{{Name: r.Disk, Size: r.Size}}, Mode: r.Mode, Parent: r.Parent,
		ParentCheckpoint: r.ParentCheckpoint, Branch: r.Branch, Checkpoint: r.Checkpoint, Manual: s.file.Manual}
	if q.Mode == "" {
		q.Mode = d.Mode
	}
	if q.Checkpoint == "" {
		q.Checkpoint = d.Checkpoint
	}
	if q.Mode != string(catalog.Full) && q.Parent == "" && q.ParentCheckpoint == "" {
		q.Parent, q.ParentCheckpoint, q.Branch = d.Parent, d.ParentCheckpoint, d.Branch
	}
	return q
}

// addDisk adds a disk unless something is to be done first, which it returns. No
// point that the disk is based on can go meanwhile.
func (s *session) addDisk(q *StartRequest, r *DiskImport) (x *Disk, first func() error, err error) {
	s.m.points.RLock()
	defer s.m.points.RUnlock()
	s.gate.RLock()
	defer s.gate.RUnlock()
	if err := s.working(); err != nil {
		return nil, nil, err
	}
	s.saving.Lock()
	defer s.saving.Unlock()
	source, err := s.source(r)
	if err != nil {
		return nil, nil, err
	}
	planned, _, first, err := s.m.plan(q)
	if err != nil || first != nil {
		return nil, first, err
	}
	spec := planned[0]
	spec.Token, spec.Imported, spec.Source = "", true, source
	d, err := s.createDisk(spec)
	if err != nil {
		return nil, nil, fmt.Errorf("add disk %s to backup %s: %w", r.Disk, s.file.ID, err)
	}
	return &Disk{d: d}, nil, nil
}

// source checks a request against what the session has, and finds the file the
// disk was understood from. The caller holds saving.
func (s *session) source(r *DiskImport) (uint64, error) {
	if len(s.disks) >= maxDisks {
		return 0, fmt.Errorf("%w: backup %s has %d disks", ErrLimit, s.file.ID, len(s.disks))
	}
	if slices.ContainsFunc(s.disks, func(d *disk) bool { return d.spec.Disk == r.Disk }) {
		return 0, fmt.Errorf("%w: backup %s has disk %s already", ErrBadRequest, s.file.ID, r.Disk)
	}
	if r.Source == "" {
		return 0, nil
	}
	f, err := s.named(r.Source)
	if err != nil {
		return 0, err
	}
	if slices.ContainsFunc(s.disks, func(d *disk) bool { return d.spec.Source == f.id }) {
		return 0, fmt.Errorf("%w: file %q is understood as another disk already", ErrBadRequest, r.Source)
	}
	return f.id, nil
}

// createDisk makes a disk's journal, and then the disk a part of the session. The
// caller holds saving.
func (s *session) createDisk(spec diskFile) (*disk, error) {
	d, err := newDisk(s, spec)
	if err != nil {
		return nil, err
	}
	path := s.m.journalPath(s.file.ID, spec.Disk)
	if d.journal, err = createJournal(s.m.fs, path, s.owner(spec.Disk), spec.Size, 0); err != nil {
		return nil, errors.Join(err, s.m.fs.Remove(path))
	}
	next := s.content()
	next.Disks = append(slices.Clone(next.Disks), spec)
	if err := s.m.save(&next); err != nil {
		return nil, errors.Join(err, d.close())
	}
	s.replace(&next)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disks = append(slices.Clone(s.disks), d)
	return d, nil
}

// DropDisk takes an added disk away: the session is as before AddDisk. It waits
// for operations under way.
func (m *Manager) DropDisk(session, disk string) error {
	s, err := m.keeper(session)
	if err != nil {
		return err
	}
	s.gate.Lock()
	defer s.gate.Unlock()
	if err := s.working(); err != nil {
		return err
	}
	s.saving.Lock()
	defer s.saving.Unlock()
	next := s.content()
	i := slices.IndexFunc(next.Disks, func(d diskFile) bool { return d.Disk == disk && d.Imported })
	if i < 0 {
		return fmt.Errorf("%w: no disk %s was added to backup %s", ErrBadRequest, disk, session)
	}
	next.Disks = slices.Delete(slices.Clone(next.Disks), i, i+1)
	if err := m.save(&next); err != nil {
		return fmt.Errorf("drop disk %s of backup %s: %w", disk, session, err)
	}
	s.replace(&next)
	d := s.disks[i]
	d.gone = true
	s.mu.Lock()
	s.disks = slices.Delete(slices.Clone(s.disks), i, i+1)
	s.mu.Unlock()
	s.giveBack(d)
	return errors.Join(d.close(), m.fs.Remove(m.journalPath(session, disk)))
}

// dropImports drops the disks that were added before the server ended: whether
// all was copied is not known. They will be added again.
func (s *session) dropImports() error {
	if mutant.On("volume/half-import-stays") {
		return s.strays()
	}
	keep := slices.DeleteFunc(slices.Clone(s.file.Disks), func(d diskFile) bool { return d.Imported })
	if len(keep) < len(s.file.Disks) {
		s.file.Disks = keep
		if err := s.m.save(&s.file); err != nil {
			return err
		}
	}
	return s.strays()
}

// strays removes the journals of files and disks that session.json does not name:
// of files that were open without a name, and of changes that did not come to it.
func (s *session) strays() error {
	if !s.file.KeepsFiles || mutant.On("volume/stray-journals") {
		return nil
	}
	named := map[string]bool{}
	for _, d := range s.file.Disks {
		named[path.Base(s.m.journalPath(s.file.ID, d.Disk))] = true
	}
	for _, f := range s.file.Files {
		named[path.Base(s.m.fileJournalPath(s.file.ID, f.ID))] = true
	}
	return s.m.removeJournalsBut(s, named)
}

// copyStep is how many bytes CopyBlocks takes at a time: the blocks of a chunk.
const copyStep = dedup.ChunkSize

// CopyBlocks makes n bytes of the disk from byte to on what the file has from
// byte from on. No data moves. from and to are multiples of the block size
// (64 KiB), and so is n, unless it ends at the disk's or the file's end. From
// then on nobody can change the file or remove it (ErrInUse) until the disk is
// dropped or the session has ended.
func (x *Disk) CopyBlocks(f *File, from, to, n int64) error {
	op, err := x.d.enter()
	if err != nil {
		return err
	}
	defer x.d.leave(op)
	if err := x.d.borrow(f); err != nil {
		return err
	}
	end, _ := f.f.d.look()
	atEnd := to+n == x.Size() || from+n == end.length
	if from%dedup.BlockSize != 0 || to%dedup.BlockSize != 0 || n%dedup.BlockSize != 0 && !atEnd {
		return fmt.Errorf("%w: bytes %d+%d of the file to %d of the disk are not whole blocks", errRange, from, n, to)
	}
	if err := errors.Join(checkRange(from, n, end.length), checkRange(to, n, x.Size())); err != nil {
		return err
	}
	tail := int64(0)
	if to+n == x.Size() { // nothing may be behind the disk's end
		tail = n % dedup.BlockSize
	}
	if err := x.d.copyBlocks(f.f.d, from, to, n-tail); err != nil || tail == 0 {
		return err
	}
	buf := make([]byte, tail)
	if err := f.f.d.read(buf, from+n-tail); err != nil {
		return err
	}
	return x.d.write(buf, to+n-tail)
}

// borrow makes sure that a file of the session stays as it is while the disk,
// which was added, needs its blocks.
func (d *disk) borrow(x *File) error {
	s, f := d.s, x.f
	if f.d.s != s || !d.spec.Imported {
		return fmt.Errorf("%w: %s is not made of files of its session", ErrBadRequest, d.what())
	}
	f.d.seal(1)
	s.mu.Lock()
	first := !x.closed.Load() && !slices.Contains(d.sources, f)
	if first {
		d.sources = append(d.sources, f)
		f.users++
	}
	s.mu.Unlock()
	if !first {
		f.d.seal(-1)
	}
	if x.closed.Load() {
		return fs.ErrClosed
	}
	return nil
}

// seal counts one more or less disk that has blocks of a file.
func (d *disk) seal(by int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.file.copied += by
}

// giveBack lets the files change again that a dropped disk had blocks of.
func (s *session) giveBack(d *disk) {
	s.mu.Lock()
	sources := d.sources
	d.sources = nil
	s.mu.Unlock()
	for _, f := range sources {
		f.d.seal(-1)
		s.unuse(f)
	}
}

// copyBlocks takes over the blocks of a file that does not change any more; the
// last may be the file's short one.
func (d *disk) copyBlocks(f *disk, from, to, n int64) error {
	for done := int64(0); done < n; {
		step := min(n-done, copyStep-(from+done)%copyStep)
		list := make([]dedup.Addr, blocksOf(step))
		patched, err := f.resolve((from+done)/dedup.BlockSize, list)
		if err != nil {
			return err
		}
		c, err := d.putMerged(f, list, patched)
		if err != nil {
			return err
		}
		runs, written := mappedRuns((to+done)/dedup.BlockSize, list), int64(0)
		for _, r := range runs {
			if r.addr != 0 {
				written += int64(r.count) * dedup.BlockSize
			}
		}
		err = d.log(func() error {
			c.written = written
			if err := d.logMap(c, runs); err != nil {
				return err
			}
			return d.settle()
		})
		if err != nil {
			return err
		}
		done += step
	}
	return nil
}

// putMerged stores the blocks of a file that were written in part, and says in
// list where they lie. The file's journal is not touched: flushed it stays.
func (d *disk) putMerged(f *disk, list []dedup.Addr, patched []patchedBlock) (c counts, err error) {
	buf := blockBuffers.Get().(*[dedup.BlockSize]byte)
	defer blockBuffers.Put(buf)
	for _, b := range patched {
		at := list[b.index : b.index+1]
		if err := d.s.m.blocks.Read(at, buf[:]); err != nil {
			return c, err
		}
		if err := f.overlay(buf[:], 0, b.list, b.raw); err != nil {
			return c, err
		}
		r, err := d.s.writer.Put(buf[:], nil, at)
		if err != nil {
			return c, err
		}
		c.fresh, c.stored = c.fresh+r.NewBytes, c.stored+r.StoredBytes
	}
	return c, nil
}
