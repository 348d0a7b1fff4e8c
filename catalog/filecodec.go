package catalog

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A file is kept like the image of a disk whose name is FileKey of the file's
// name: the same records, the same keys, the same references. Its entry in a
// point's list of images says in the place of
//
//	parent        nothing
//	checkpoint    the disk it was understood as
//	bytes zeroed  when it was modified, Unix milliseconds; 0: it is not known
//
// and mode is full. A slash sorts before whatever a disk's name can begin with,
// so the files come first.

// FileKey names a file where a disk can be named too: in ChunkList, Affected
// and volume.OpenImage. No disk's name begins like that.
func FileKey(name string) string { return "/" + name }

// IsFileKey tells a file's key from a disk's name, and returns the file's name.
func IsFileKey(key string) (name string, ok bool) { return strings.CutPrefix(key, "/") }

// partName is what a disk or a file is called in an error.
func partName(key string) string {
	if name, ok := IsFileKey(key); ok {
		return fmt.Sprintf("file %q", name)
	}
	return "disk " + key
}

// CheckFileName tells whether a file of that name can be kept with a point: at
// most MaxFileName bytes of UTF-8 without control characters, that is one or up
// to MaxFileDepth components, each with a slash between it and the next, none
// of them empty, "." or "..".
func CheckFileName(name string) error {
	switch {
	case name == "" || len(name) > MaxFileName:
		return invalid("file name of %d bytes; it has 1 to %d", len(name), MaxFileName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return invalid("file name %q: use UTF-8 without control characters", name)
	}
	depth := 0
	for part := range strings.SplitSeq(name, "/") {
		if depth++; part == "" || part == "." || part == ".." {
			return invalid("file name %q: no component may be empty, '.' or '..', and none begins it with '/'", name)
		}
	}
	if depth > MaxFileDepth {
		return invalid("file name %q: %d components; it may have %d", name, depth, MaxFileDepth)
	}
	return nil
}

// entry is the file as it stands in a point's list of images.
func (f *FileImage) entry() Image {
	return Image{Disk: FileKey(f.Name), Size: f.Size, Mode: Full, Root: f.Root, Checkpoint: f.Disk,
		WrittenBytes: f.WrittenBytes, ZeroedBytes: max(unixMilli(f.Modified), 0), NewBytes: f.NewBytes, StoredBytes: f.StoredBytes}
}

// file is entry's inverse.
func (im *Image) file() FileImage {
	name, _ := IsFileKey(im.Disk)
	f := FileImage{Name: name, Size: im.Size, Root: im.Root, Disk: im.Checkpoint,
		WrittenBytes: im.WrittenBytes, NewBytes: im.NewBytes, StoredBytes: im.StoredBytes}
	if im.ZeroedBytes != 0 {
		f.Modified = time.UnixMilli(im.ZeroedBytes).UTC()
	}
	return f
}

func unixMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// entries are the files and the images of a point as they are stored.
func (p *Point) entries() []Image {
	list := make([]Image, 0, len(p.Files)+len(p.Images))
	for i := range p.Files {
		list = append(list, p.Files[i].entry())
	}
	return append(list, p.Images...)
}

// addEntry is what entries is undone with.
func (p *Point) addEntry(im Image) error {
	name, file := IsFileKey(im.Disk)
	if !file {
		p.Images = append(p.Images, im)
		return nil
	}
	last := len(p.Files) - 1
	if CheckFileName(name) != nil || im.Mode != Full || im.Parent != "" || im.ZeroedBytes > maxTime ||
		len(p.Images) > 0 || last >= 0 && p.Files[last].Name >= name {
		return errDecode
	}
	f := im.file()
	p.Files = append(p.Files, f)
	return nil
}

// parts are the keys of all images and files of a point.
func (p *Point) parts() []string {
	keys := make([]string, 0, len(p.Files)+len(p.Images))
	for i := range p.Files {
		keys = append(keys, FileKey(p.Files[i].Name))
	}
	for i := range p.Images {
		keys = append(keys, p.Images[i].Disk)
	}
	return keys
}

// filesOf are the files that were understood as a disk; the disk's image takes
// them along when it goes.
func (p *Point) filesOf(disk string) (names []string) {
	for i := range p.Files {
		if p.Files[i].Disk == disk {
			names = append(names, p.Files[i].Name)
		}
	}
	return names
}

// File is a point's file of that name.
func (p *Point) File(name string) (FileImage, bool) {
	i := slices.IndexFunc(p.Files, func(f FileImage) bool { return f.Name == name })
	if i < 0 {
		return FileImage{}, false
	}
	return p.Files[i], true
}
