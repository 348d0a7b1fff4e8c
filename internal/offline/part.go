package offline

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/strongroom-backup/strongroom/catalog"
)

// choose finds what to export: a file of the point when one is named, else a
// disk. A file is read as the image it is kept like; its Disk is the file's key.
func choose(p *catalog.Point, disk, file string) (catalog.Image, error) {
	if file != "" {
		return chooseFile(p, file)
	}
	if disk == "" && len(p.Images) == 1 {
		return p.Images[0], nil
	}
	for _, im := range p.Images {
		if im.Disk == disk {
			return im, nil
		}
	}
	switch {
	case len(p.Images) == 0:
		return catalog.Image{}, fmt.Errorf("disk of point %s of VM %s %w: it has only %s; name one with --file",
			p.ID, p.VM, catalog.ErrNotFound, fileNames(p))
	case disk == "":
		return catalog.Image{}, fmt.Errorf("point %s of VM %s has the disks %s: name one, as %s/DISK@%s%s",
			p.ID, p.VM, diskNames(p), p.VM, p.ID, orFile(p))
	}
	return catalog.Image{}, fmt.Errorf("disk %s of point %s of VM %s %w: it has %s%s",
		disk, p.ID, p.VM, catalog.ErrNotFound, diskNames(p), orFile(p))
}

func chooseFile(p *catalog.Point, name string) (catalog.Image, error) {
	f, ok := p.File(name)
	switch {
	case ok:
		return catalog.Image{Disk: catalog.FileKey(name), Size: f.Size, Root: f.Root}, nil
	case len(p.Files) == 0:
		return catalog.Image{}, fmt.Errorf("file %q of point %s of VM %s %w: it has no files, only the disks %s",
			name, p.ID, p.VM, catalog.ErrNotFound, diskNames(p))
	}
	return catalog.Image{}, fmt.Errorf("file %q of point %s of VM %s %w: it has %s",
		name, p.ID, p.VM, catalog.ErrNotFound, fileNames(p))
}

// partName is what a disk or file is called in an error.
func partName(key string) string {
	if name, ok := catalog.IsFileKey(key); ok {
		return fmt.Sprintf("file %q", name)
	}
	return "disk " + key
}

func diskNames(p *catalog.Point) string {
	var names []string
	for _, im := range p.Images {
		names = append(names, im.Disk)
	}
	return enumerate(names)
}

func fileNames(p *catalog.Point) string {
	var names []string
	for _, f := range p.Files {
		names = append(names, strconv.Quote(f.Name))
	}
	return "the files " + enumerate(names)
}

func orFile(p *catalog.Point) string {
	if len(p.Files) == 0 {
		return ""
	}
	return fmt.Sprintf("; or one of its %d files with --file", len(p.Files))
}

// enumerate shows the first names.
func enumerate(names []string) string {
	if rest := len(names) - namesListed; rest > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:namesListed], ", "), rest)
	}
	return strings.Join(names, ", ")
}
