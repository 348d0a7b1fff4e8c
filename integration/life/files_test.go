package life

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/maintenance"
	"github.com/strongroom-backup/strongroom/volume"
)

// file is a file of a point.
type file struct {
	content
	disk string // it was understood as
}

// newFile is a file of a session.
type newFile struct {
	want  content
	clean bool // everything acknowledged was flushed since
}

// addedDisk is a disk that is made of a file.
type addedDisk struct {
	name, parent string
	want         content
	source       *newFile
}

var fileNames = []string{"vdc.raw", "vdc.raw.part", "etc/notes", "a b"}

func (p *point) dropFiles(disk string) {
	maps.DeleteFunc(p.files, func(_ string, f file) bool { return f.disk == disk })
}

// contents are those of all images and files, by what they are opened as.
func (p *point) contents() map[string]content {
	all := map[string]content{}
	for name, im := range p.images {
		all[name] = im.content
	}
	for name, f := range p.files {
		all[catalog.FileKey(name)] = f.content
	}
	return all
}

// sameFiles is same for the files.
func sameFiles(got *catalog.Point, want *point) error {
	if len(got.Files) != len(want.files) {
		return fmt.Errorf("point %s has files %+v, want %d", got.ID, got.Files, len(want.files))
	}
	for _, f := range got.Files {
		if w, ok := want.files[f.Name]; !ok || f.Size != w.size || f.Disk != w.disk {
			return fmt.Errorf("point %s, file %+v; want one of disk %q, %d bytes", got.ID, f, w.disk, w.size)
		}
	}
	return nil
}

// flushed notes that all was.
func (s *session) flushed() {
	s.clean = true
	for _, f := range s.files {
		f.clean = true
	}
}

// committed are the files as the point has them.
func (s *session) committed(added *addedDisk) map[string]file {
	files := map[string]file{}
	for name, f := range s.files {
		x := file{content: f.want.clone()}
		if added != nil && added.source == f {
			x.disk = added.name
		}
		files[name] = x
	}
	return files
}

// cloneFiles copies files; names of one file stay names of one.
func cloneFiles(files map[string]*newFile) map[string]*newFile {
	copies, out := map[*newFile]*newFile{}, map[string]*newFile{}
	for name, f := range files {
		if copies[f] == nil {
			copies[f] = &newFile{f.want.clone(), f.clean}
		}
		out[name] = copies[f]
	}
	return out
}

// keeper is an open session for files, if there is one.
func (h *history) keeper() *session {
	for _, s := range h.sessions {
		if s.keeps {
			return s
		}
	}
	return nil
}

// openFile opens a file, or makes it.
func (h *history) openFile(s *session, name string) (*newFile, *volume.File, error) {
	if f := s.files[name]; f != nil {
		x, err := h.w.vols.OpenFile(s.id, name)
		return f, x, err
	}
	x, err := h.w.vols.CreateFile(s.id, name, 0o600)
	f := &newFile{want: content{}.resized(0), clean: true}
	s.files[name] = f
	return f, x, err
}

func (h *history) changeFile() error {
	s := h.keeper()
	if s == nil {
		return nil
	}
	name := fileNames[h.rng.IntN(len(fileNames))]
	h.note("change file %s of session %s", name, s.id)
	f, x, err := h.openFile(s, name)
	if err != nil {
		return fmt.Errorf("file %q of session %s: %w", name, s.id, err)
	}
	if h.rng.IntN(6) == 0 {
		err = x.Flush()
		f.clean = f.clean || err == nil
	} else {
		f.clean = false
		err = h.changeOpen(f, x)
	}
	if err := errors.Join(err, x.Close()); err != nil {
		return fmt.Errorf("file %q of session %s: %w", name, s.id, err)
	}
	return nil
}

func (h *history) changeOpen(f *newFile, x *volume.File) error {
	off := h.rng.Int64N(6) * dedup.BlockSize
	if h.rng.IntN(8) == 0 {
		off += dedup.ChunkSize - 3*dedup.BlockSize
	}
	switch h.rng.IntN(6) {
	case 0:
		size := off + h.rng.Int64N(dedup.BlockSize)
		if size < f.want.size {
			f.want.zero(size, f.want.size-size)
		}
		f.want.size = size
		return x.Truncate(size)
	case 1:
		n := 1 + h.rng.Int64N(3*dedup.BlockSize)
		f.want.zero(off, n)
		f.want.size = max(f.want.size, off+n)
		return x.Zero(off, n)
	case 2:
		off += h.rng.Int64N(dedup.BlockSize)
	case 3:
		off = f.want.size
	}
	var p []byte
	for range 1 + h.rng.IntN(4) {
		p = append(p, h.anyBlock()...)
	}
	if h.rng.IntN(2) == 0 {
		p = p[:1+h.rng.IntN(len(p))]
	}
	f.want.write(p, off)
	f.want.size = max(f.want.size, off+int64(len(p)))
	_, err := x.WriteAt(p, off)
	return err
}

// nameFile renames, links or removes a file.
func (h *history) nameFile() error {
	s := h.keeper()
	if s == nil || len(s.files) == 0 {
		return nil
	}
	have := slices.Sorted(maps.Keys(s.files))
	from, to := have[h.rng.IntN(len(have))], fileNames[h.rng.IntN(len(fileNames))]
	switch n := h.rng.IntN(4); {
	case n < 2:
		h.note("rename file %s of session %s to %s", from, s.id, to)
		if err := h.w.vols.RenameFile(s.id, from, to); err != nil {
			return fmt.Errorf("rename: %w", err)
		}
		if s.files[from] != s.files[to] {
			s.files[to] = s.files[from]
			delete(s.files, from)
		}
	case n == 2 && s.files[to] == nil:
		h.note("link file %s of session %s as %s", from, s.id, to)
		if err := h.w.vols.LinkFile(s.id, from, to); err != nil {
			return fmt.Errorf("link: %w", err)
		}
		s.files[to] = s.files[from]
	default:
		h.note("remove file %s of session %s", from, s.id)
		if err := h.w.vols.RemoveFile(s.id, from); err != nil {
			return fmt.Errorf("remove: %w", err)
		}
		delete(s.files, from)
	}
	return nil
}

// fileReader is a file as something to check.
type fileReader struct{ *volume.File }

func (f fileReader) Size() int64 { return f.Status().Size }

func (h *history) checkFiles(s *session) error {
	if !s.keeps {
		return nil
	}
	list, err := h.w.vols.FileNames(s.id)
	if err != nil || len(list) != len(s.files) {
		return fmt.Errorf("session %s has files %+v, %v; want %d", s.id, list, err, len(s.files))
	}
	for name, f := range s.files {
		x, err := h.w.vols.OpenFile(s.id, name)
		if err != nil {
			return fmt.Errorf("session %s: %w", s.id, err)
		}
		if err := errors.Join(f.want.check(fileReader{x}), x.Close()); err != nil {
			return fmt.Errorf("session %s, file %q: %w", s.id, name, err)
		}
	}
	return nil
}

// dropLost takes the files away of which a power cut took something.
func (h *history) dropLost(s *session, st *volume.Status, mayDie bool) error {
	for _, fs := range st.Files {
		f := s.files[fs.Name]
		if fs.Unfinished == "" && fs.Lost == "" {
			if f != nil {
				f.clean = f.clean || mayDie
			}
			continue
		}
		// Lost is one of whose last flush a collection took what was overwritten.
		if f == nil || f.clean || !mayDie {
			return fmt.Errorf("file %q of session %s is unfinished or lost: %s%s", fs.Name, s.id, fs.Unfinished, fs.Lost)
		}
		h.note("file %s of session %s is unfinished", fs.Name, s.id)
		if err := h.w.vols.RemoveFile(s.id, fs.Name); err != nil {
			return err
		}
		delete(s.files, fs.Name)
	}
	return nil
}

// importDisk makes a disk of a file that is about to be committed, at times.
func (h *history) importDisk(s *session) (*addedDisk, error) {
	names := slices.Sorted(maps.Keys(s.files))
	if len(names) == 0 || h.rng.IntN(4) == 0 {
		return nil, nil
	}
	name := names[h.rng.IntN(len(names))]
	f := s.files[name]
	if f.want.size == 0 {
		return nil, nil
	}
	size := f.want.size + h.rng.Int64N(2)*70_000
	h.note("add disk vdc of %d bytes to session %s, from %s", size, s.id, name)
	d, err := h.w.vols.AddDisk(s.id, volume.DiskImport{Disk: "vdc", Size: size, Source: name, Mode: "auto"})
	if everr := h.evicted(); everr != nil {
		return nil, everr
	}
	if errors.Is(err, maintenance.ErrChainLimit) && h.s.settings.ChainLimit > 0 || errors.Is(err, volume.ErrMismatch) {
		return nil, nil // it is smaller than the image the session branches from
	}
	if err != nil {
		return nil, fmt.Errorf("add disk: %w", err)
	}
	st, err := h.w.vols.Status(s.id)
	if err != nil {
		return nil, err
	}
	added := &addedDisk{name: "vdc", parent: st.Disks[len(st.Disks)-1].Parent, source: f, want: content{}.resized(size)}
	if p := h.points.find(added.parent); p != nil {
		added.want = p.images["vdc"].resized(size)
	} else if added.parent != "" {
		return nil, fmt.Errorf("disk vdc inherits from %s, which is not there", added.parent)
	}
	return added, h.copyBlocks(s, added, d, name)
}

// copyBlocks copies the beginning of the file to the beginning of the disk.
func (h *history) copyBlocks(s *session, added *addedDisk, d *volume.Disk, name string) error {
	n := added.source.want.size
	if h.rng.IntN(2) == 0 && n > 2*dedup.BlockSize {
		n = n / 2 / dedup.BlockSize * dedup.BlockSize
	}
	x, err := h.w.vols.OpenFile(s.id, name)
	if err != nil {
		return err
	}
	if err := errors.Join(d.CopyBlocks(x, 0, 0, n), x.Close()); err != nil {
		return fmt.Errorf("copy %d bytes of %q: %w", n, name, err)
	}
	end := min((n+dedup.BlockSize-1)/dedup.BlockSize*dedup.BlockSize, added.want.size)
	added.want.zero(0, end) // a block is taken whole
	for i, b := range added.source.want.blocks {
		if i*dedup.BlockSize < n {
			added.want.blocks[i] = b
		}
	}
	return nil
}
