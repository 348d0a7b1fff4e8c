package restore

import (
	"errors"
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
// without the server. File names are relative to the manifest's directory, with
// slashes.
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
	File  string `json:"file"`
	Size  int64  `json:"size"` // of the disk at that point, bytes
	// Changed are the chunks whose hash is not as in the layer below; of the first
	// one, those that are not zeros.
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

// ReadManifest reads a manifest and checks everything in it but the files it
// names. path is that of the manifest, or of a directory that has one.
func ReadManifest(path string) (*Manifest, error) { return nil, errUnfinished }

// WriteManifest writes a manifest, whole and synced, or not at all. What has the
// name is refused as by CheckOutput.
func WriteManifest(path string, m *Manifest, force bool) error { return errUnfinished }

var errUnfinished = errors.New("unfinished")
