package restore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
)

// Difference is what is not as the manifest says: a file that is missing or is not
// what it should be, or a range of bytes of a disk or file in it.
type Difference struct {
	Disk   string `json:"disk,omitempty"`
	Name   string `json:"name,omitempty"` // of a file as it came, or a blob
	File   string `json:"file"`
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`           // 0: the file as a whole
	Reason string `json:"reason,omitempty"` // then
}

// Checked is what a verification found.
type Checked struct {
	Manifest    string       `json:"manifest"`
	Point       string       `json:"point"`
	VM          string       `json:"vm"`
	Disks       int          `json:"disks"`
	Files       int          `json:"files"` // as they came
	Blobs       int          `json:"blobs"`
	Bytes       int64        `json:"bytes"` // of data that was read
	Differences []Difference `json:"differences"`
}

// VerifyDir compares everything a manifest names with it, past the page cache
// where that is possible; path is that of the manifest, or of a directory that has
// one. Its error is that of the manifest, or that of ctx; differences are in the
// answer. The steps it tells are the names of files.
func VerifyDir(ctx context.Context, path string, e Events) (Checked, error) {
	path = FindManifest(path)
	m, err := ReadManifest(path)
	if err != nil {
		return Checked{}, err
	}
	c := &check{
		dir: filepath.Dir(path), events: e, archives: map[string]*archiveContent{},
		out: Checked{Manifest: path, Point: m.Point, VM: m.VM, Disks: len(m.Disks), Files: len(m.Files), Blobs: len(m.Blobs), Differences: []Difference{}},
	}
	c.readArchives(ctx, m)
	for i := range m.Disks {
		c.disk(ctx, &m.Disks[i])
	}
	for _, f := range m.Files {
		c.content(ctx, Difference{Name: f.Name, File: f.File}, Raw, f.Size, f.ManifestHash)
	}
	for _, b := range m.Blobs {
		c.blob(b)
	}
	if ctx.Err() != nil {
		return c.out, context.Cause(ctx)
	}
	return c.out, nil
}

// check is one verification.
type check struct {
	dir      string
	events   Events
	archives map[string]*archiveContent // by file; nil: it is damaged, and that was told
	out      Checked
}

// path is where a file is.
func (c *check) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(c.dir, name)
}

func (c *check) begin(file string, bytes int64) {
	c.out.Bytes += bytes
	c.events.begin(file, bytes)
}

// wrong notes that a file as a whole is not what it should be.
func (c *check) wrong(d Difference, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	if d.Reason = err.Error(); errors.Is(err, fs.ErrNotExist) {
		d.Reason = "it is missing"
	}
	c.out.Differences = append(c.out.Differences, d)
}

// differ notes where it differs.
func (c *check) differ(d Difference, ranges []Range) {
	for i, r := range ranges {
		if i == differencesMax {
			c.wrong(d, fmt.Errorf("%d more ranges of it differ", len(ranges)-i))
			return
		}
		d.Offset, d.Length = r.Offset, r.Length
		c.out.Differences = append(c.out.Differences, d)
	}
}

func (c *check) disk(ctx context.Context, m *ManifestDisk) {
	d := Difference{Disk: m.Disk, File: m.File}
	switch {
	case len(m.Chain) > 0:
		c.chain(ctx, m)
	case m.Format == VMA:
		if a := c.archives[m.File]; a != nil {
			c.compareArchived(d, m, a)
		}
	default:
		c.content(ctx, d, m.Format, m.Size, m.ManifestHash)
	}
}

// content checks a file that holds a disk, or was restored as it came.
func (c *check) content(ctx context.Context, d Difference, format Format, size int64, m ManifestHash) {
	want, err := m.hash(size)
	if err != nil {
		c.wrong(d, err)
		return
	}
	f, err := openLocal(c.path(d.File))
	if err != nil {
		c.wrong(d, err)
		return
	}
	defer f.Close()
	got, err := verifyOpen(ctx, f, format, size, Events{Begin: func(_ string, n int64) { c.begin(d.File, n) }, Progress: c.events.Progress})
	if err != nil {
		c.wrong(d, err)
		return
	}
	c.differ(d, compare(got, want, size))
}

// chain checks the files of a chain. A chunk that differs in a file differs in all
// that lie over it; it is told of the lowest.
func (c *check) chain(ctx context.Context, m *ManifestDisk) {
	var layers []chainLayer
	defer func() {
		for _, l := range layers {
			l.(*localLayer).file.Close()
		}
	}()
	backing := ""
	for _, x := range m.Chain {
		l, err := openLayer(c.path(x.File), x.Size, backing)
		if err != nil {
			c.wrong(Difference{Disk: m.Disk, File: x.File}, err)
		} else {
			layers = append(layers, l)
		}
		backing = filepath.Base(x.File)
	}
	if len(layers) < len(m.Chain) {
		return // what was found is told
	}
	whole := Difference{Disk: m.Disk, File: m.Chain[len(m.Chain)-1].File}
	n, err := chainData(layers)
	if err != nil {
		c.wrong(whole, err)
		return
	}
	c.begin(whole.File, n)
	got, top, err := hashChain(ctx, layers, c.events.Progress)
	if err != nil {
		c.wrong(whole, err)
		return
	}
	before := len(c.out.Differences)
	told := map[int64]bool{}
	for k := range m.Chain {
		x := &m.Chain[k]
		want, err := x.hash()
		if err != nil {
			c.wrong(Difference{Disk: m.Disk, File: x.File}, err)
			return
		}
		c.differ(Difference{Disk: m.Disk, File: x.File}, compareLayers(got[k], want, x.Size, told))
	}
	if want, err := m.hash(m.Size); err == nil && before == len(c.out.Differences) {
		c.differ(whole, compare(top, want, m.Size))
	}
}

// readArchives reads the archives in which disks are, each once.
func (c *check) readArchives(ctx context.Context, m *Manifest) {
	sizes := map[string]map[string]int64{}
	for _, d := range m.Disks {
		if d.Format != VMA {
			continue
		}
		if sizes[d.File] == nil {
			sizes[d.File] = map[string]int64{}
		}
		sizes[d.File][d.Disk] = d.Size
	}
	for file, disks := range sizes {
		f, err := openLocal(c.path(file))
		if err == nil {
			c.begin(file, f.size)
			c.archives[file], err = readArchive(ctx, f, disks, c.events.Progress)
			f.Close()
		}
		if err != nil {
			c.archives[file] = nil
			c.wrong(Difference{File: file}, err)
		}
	}
}

func (c *check) compareArchived(d Difference, m *ManifestDisk, a *archiveContent) {
	want, err := m.hash(m.Size)
	if got, ok := a.disks[m.Disk]; err == nil && ok {
		c.differ(d, compare(got, want, m.Size))
		return
	}
	if err == nil {
		err = errors.New("the archive has no such disk")
	}
	c.wrong(d, err)
}

func (c *check) blob(b ManifestBlob) {
	d := Difference{Name: b.Name, File: b.File}
	data, err := c.blobData(b)
	if err != nil {
		c.wrong(d, err)
		return
	}
	if sum := sha256.Sum256(data); data != nil && (int64(len(data)) != b.Size || hex.EncodeToString(sum[:]) != b.SHA256) {
		c.wrong(d, errors.New("its bytes are not those that were restored"))
	}
}

// blobData is nil when the archive that has the blob is damaged.
func (c *check) blobData(b ManifestBlob) ([]byte, error) {
	if a, ok := c.archives[b.File]; ok {
		if a == nil {
			return nil, nil
		}
		data, ok := a.blobs[b.Name]
		if !ok {
			return nil, errors.New("the archive has no such blob")
		}
		return append([]byte{}, data...), nil
	}
	f, err := openLocal(c.path(b.File))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if f.size != b.Size || f.size > blobMax {
		return nil, fmt.Errorf("it has %d bytes, not %d", f.size, b.Size)
	}
	var data bytes.Buffer
	_, err = io.Copy(&data, io.NewSectionReader(f, 0, f.size))
	return append([]byte{}, data.Bytes()...), err
}
