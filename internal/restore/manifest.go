package restore

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// ManifestName is the manifest's name in a restored directory; beside a single
// file it is the file's name and ManifestSuffix.
const (
	ManifestName   = "strongroom-restore.json"
	ManifestSuffix = ".restore.json"
)

// manifestVersion is the version of the format that is written, and the only one
// that is read.
const manifestVersion = 1

// Manifest says what a restore has written, so that it can be checked later
// without the server. File names are relative to the manifest's directory and
// lie in it, or are absolute.
type Manifest struct {
	Version  int            `json:"version"`
	Point    string         `json:"point"`
	VM       string         `json:"vm"`
	Time     time.Time      `json:"time"`     // of the point
	Restored time.Time      `json:"restored"` // when the restore ended
	Server   string         `json:"server"`   // its version
	Disks    []ManifestDisk `json:"disks,omitempty"`
	Files    []ManifestFile `json:"files,omitempty"` // as they came over SFTP
	Blobs    []ManifestBlob `json:"blobs,omitempty"`
}

// ManifestDisk is a disk and the file, or the chain of files, that holds it.
type ManifestDisk struct {
	Disk   string          `json:"disk"`
	Size   int64           `json:"size"` // of the disk, bytes
	Format Format          `json:"format"`
	File   string          `json:"file,omitempty"`
	Chain  []ManifestLayer `json:"chain,omitempty"` // instead of File; the full one first
	ManifestHash
}

// ManifestLayer is one file of a chain: with those before it, the disk at a point.
type ManifestLayer struct {
	Point string `json:"point"`
	File  string `json:"file"` // in the directory of the others
	Size  int64  `json:"size"` // of the disk at that point, bytes
	// Changed are the chunks whose hash is not as in the layer below; of the first
	// one, those that are not zeros. Ascending.
	Changed []ManifestChunk `json:"changed,omitempty"`
	Root    string          `json:"root"`
}

// ManifestChunk is the hash of one chunk.
type ManifestChunk struct {
	Chunk int64  `json:"chunk"` // number
	Hash  string `json:"hash"`
}

// ManifestHash is a DiskHash in hex. The hash of a whole chunk of zeros is "".
type ManifestHash struct {
	Chunks []string `json:"chunks"`
	Root   string   `json:"root"`
}

// ManifestFile is a file restored as it came.
type ManifestFile struct {
	Name string `json:"name"` // in the point
	Size int64  `json:"size"`
	File string `json:"file"`
	ManifestHash
}

// ManifestBlob is a blob, in a file of its own or in an archive.
type ManifestBlob struct {
	Name   string `json:"name"`
	File   string `json:"file"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// NewManifestHash writes a hash down.
func NewManifestHash(h DiskHash) ManifestHash {
	m := ManifestHash{Chunks: make([]string, len(h.Chunks)), Root: h.Root.String()}
	for i, c := range h.Chunks {
		m.Chunks[i] = chunkText(c)
	}
	return m
}

func chunkText(h Hash) string {
	if h == ZeroChunk {
		return ""
	}
	return h.String()
}

// NewManifestLayer writes a layer down.
func NewManifestLayer(point, file string, size int64, h LayerHash) ManifestLayer {
	m := ManifestLayer{Point: point, File: file, Size: size, Root: h.Root.String()}
	for _, c := range h.Changed {
		m.Changed = append(m.Changed, ManifestChunk{c.Chunk, chunkText(c.Hash)})
	}
	return m
}

// FindManifest is the path of a manifest: path itself, or in it when that is a
// directory.
func FindManifest(path string) string {
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		return filepath.Join(path, ManifestName)
	}
	return path
}

// ReadManifest reads a manifest and checks everything in it but the files it
// names. path is that of the manifest, or of a directory that has one.
func ReadManifest(path string) (*Manifest, error) {
	path = FindManifest(path)
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, manifestMax+1))
	if err != nil {
		return nil, err
	}
	if len(data) > manifestMax {
		return nil, fmt.Errorf("%s: a manifest has %d bytes at most", path, manifestMax)
	}
	m, err := parseManifest(data)
	if err != nil {
		return nil, fmt.Errorf("%s is not a manifest of a restore: %w", path, err)
	}
	return m, nil
}

// WriteManifest writes a manifest, whole and synced, or not at all. What has the
// name is refused as by CheckOutput.
func WriteManifest(path string, m *Manifest, force bool) error {
	m.Version = manifestVersion
	data, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return err
	}
	if _, err := parseManifest(data); err != nil { // what could not be read is not written
		return fmt.Errorf("write the manifest %s: %w", path, err)
	}
	return WriteFile(path, append(data, '\n'), force)
}

func parseManifest(data []byte) (*Manifest, error) {
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, err
	}
	if head.Version != manifestVersion {
		return nil, fmt.Errorf("it has version %d of the format; this program reads version %d", head.Version, manifestVersion)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	m := new(Manifest)
	if err := d.Decode(m); err != nil {
		return nil, err
	}
	return m, m.check()
}

// check refuses what no restore writes.
func (m *Manifest) check() error {
	if len(m.Disks)+len(m.Files)+len(m.Blobs) == 0 {
		return fmt.Errorf("it names no disk, file or blob")
	}
	if max(len(m.Disks), len(m.Files), len(m.Blobs)) > listMax {
		return fmt.Errorf("it names more than %d disks, files or blobs", listMax)
	}
	for i := range m.Disks {
		if err := m.Disks[i].check(); err != nil {
			return fmt.Errorf("disk %.128q: %w", m.Disks[i].Disk, err)
		}
	}
	for _, f := range m.Files {
		if err := checkContent(f.File, f.Size, f.ManifestHash); err != nil {
			return fmt.Errorf("file %.128q: %w", f.Name, err)
		}
	}
	for _, b := range m.Blobs {
		_, err := parseHash(b.SHA256)
		if err == nil {
			err = checkName(b.File)
		}
		if err == nil && b.Size < 0 {
			err = fmt.Errorf("it has %d bytes", b.Size)
		}
		if err != nil {
			return fmt.Errorf("blob %.128q: %w", b.Name, err)
		}
	}
	return nil
}

func (d *ManifestDisk) check() error {
	if _, err := ParseFormat(string(d.Format)); err != nil && d.Format != VMA {
		return err
	}
	if len(d.Chain) == 0 {
		return checkContent(d.File, d.Size, d.ManifestHash)
	}
	if d.Format != QCOW2 || d.File != "" || len(d.Chain) > listMax {
		return fmt.Errorf("a chain is of format qcow2 and has 1 to %d files", listMax)
	}
	if _, err := d.hash(d.Size); err != nil {
		return err
	}
	for k, l := range d.Chain {
		if k > 0 && (l.Size < d.Chain[k-1].Size || filepath.Dir(l.File) != filepath.Dir(d.Chain[0].File)) {
			return fmt.Errorf("the files of a chain lie in one directory, and none is of a smaller disk than the one before")
		}
		if err := l.check(); err != nil {
			return fmt.Errorf("file %.128q: %w", l.File, err)
		}
	}
	if last := d.Chain[len(d.Chain)-1]; last.Size != d.Size || last.Root != d.Root {
		return fmt.Errorf("the last file of its chain is not of this disk")
	}
	return nil
}

func (l *ManifestLayer) check() error {
	if err := checkName(l.File); err != nil {
		return err
	}
	_, err := l.hash()
	return err
}

// hash reads what NewManifestLayer has written.
func (l *ManifestLayer) hash() (h LayerHash, err error) {
	if err := checkSize(l.Size); err != nil {
		return h, err
	}
	if h.Root, err = parseHash(l.Root); err != nil {
		return h, err
	}
	before := int64(-1)
	for _, c := range l.Changed {
		sum, err := parseChunk(c.Hash)
		if err != nil {
			return h, err
		}
		if c.Chunk <= before || c.Chunk >= (l.Size+ChunkSize-1)/ChunkSize {
			return h, fmt.Errorf("chunk %d is out of order, or beyond the disk's end", c.Chunk)
		}
		before = c.Chunk
		h.Changed = append(h.Changed, ChunkHash{c.Chunk, sum})
	}
	return h, nil
}

func checkContent(file string, size int64, h ManifestHash) error {
	if err := checkName(file); err != nil {
		return err
	}
	_, err := h.hash(size)
	return err
}

// checkName takes a name that lies in the manifest's directory, or an absolute one.
func checkName(name string) error {
	clean := name != "" && filepath.Clean(name) == name && name != "." && !strings.ContainsRune(name, 0)
	if !clean || !filepath.IsLocal(name) && !filepath.IsAbs(name) {
		return fmt.Errorf("the name %.128q is not that of a file below the manifest's directory, or an absolute one", name)
	}
	return nil
}

func checkSize(size int64) error {
	if size < 0 || size > sizeMax {
		return fmt.Errorf("it has %d bytes; the limit is %d", size, sizeMax)
	}
	return nil
}

// hash reads what NewManifestHash has written, of size bytes.
func (m *ManifestHash) hash(size int64) (h DiskHash, err error) {
	if err := checkSize(size); err != nil {
		return h, err
	}
	if want := (size + ChunkSize - 1) / ChunkSize; int64(len(m.Chunks)) != want {
		return h, fmt.Errorf("it has %d hashes of chunks; %d bytes have %d", len(m.Chunks), size, want)
	}
	h.Chunks = make([]Hash, len(m.Chunks))
	for i, text := range m.Chunks {
		if h.Chunks[i], err = parseChunk(text); err != nil {
			return h, err
		}
	}
	if h.Root, err = parseHash(m.Root); err != nil {
		return h, err
	}
	if listHash(h.Chunks) != h.Root {
		return h, fmt.Errorf("its root is not the hash of its chunks")
	}
	return h, nil
}

func parseChunk(text string) (Hash, error) {
	if text == "" {
		return ZeroChunk, nil
	}
	return parseHash(text)
}

func parseHash(text string) (h Hash, err error) {
	if len(text) != 2*len(h) {
		return h, fmt.Errorf("%.80q is not a hash of 32 bytes in hex", text)
	}
	if _, err := hex.Decode(h[:], []byte(text)); err != nil {
		return h, fmt.Errorf("%.80q is not a hash of 32 bytes in hex", text)
	}
	return h, nil
}
