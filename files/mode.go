package files

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/internal/ids"
	"github.com/strongroom-backup/strongroom/volume"
)

// lineage is what an image of a disk could inherit from.
type lineage struct {
	vm, disk string
	parent   string // the newest point of the disk, or the one the session was begun with; "": none
	file     string // the file that the parent's image came as; "": it did not come as one
	isPoint  func(id string) bool
}

// lineage looks up what an image of a disk could inherit from.
func (s *Service) lineage(vm, disk, parent string) (lineage, error) {
	l := lineage{vm: vm, disk: disk, parent: parent, isPoint: func(id string) bool {
		p, err := s.o.Catalog.Point(id)
		return err == nil && p.VM == vm
	}}
	var p catalog.Point
	var err error
	if parent != "" {
		p, err = s.o.Catalog.Point(parent)
	} else {
		var ok bool
		if p, ok, err = s.o.Catalog.Latest(vm, disk); ok {
			l.parent = p.ID
		}
	}
	for _, f := range p.Files {
		if f.Disk == disk {
			l.file = f.Name
		}
	}
	return l, err
}

// decide says whether a qcow2 file with a backing file of some name, or none,
// is a full image or one that inherits.
func (l *lineage) decide(mode, backing string) (volumeMode string, err error) {
	switch mode {
	case modeFull:
		if backing != "" {
			return "", fmt.Errorf("mode is full, but it names the backing file %q; flatten it (qemu-img convert), or use mode incremental if what it lacks is what the newest point has", backing)
		}
		return modeFull, nil
	case modeIncremental:
		for _, id := range l.pointsIn(backing) {
			if id != l.parent {
				return "", fmt.Errorf("its backing file %q is point %s, but the image would inherit from point %s; send the changes since that one, or a full image, or begin the backup with --parent %s --branch", backing, id, l.parent, id)
			}
		}
		return modeIncremental, nil
	}
	switch {
	case backing == "":
		return modeFull, nil
	case l.parent == "":
		return "", fmt.Errorf("it names the backing file %q, and there is no point of disk %s yet; send a full image first (qemu-img convert flattens one)", backing, l.disk)
	case slices.Contains(l.pointsIn(backing), l.parent):
		return modeIncremental, nil
	case l.file != "" && base(l.file) == base(strings.ReplaceAll(backing, `\`, "/")):
		return modeIncremental, nil
	}
	return "", fmt.Errorf("it names the backing file %q, which does not say that it is the newest point of disk %s (%s); use mode incremental if it is, or flatten the image (qemu-img convert)", backing, l.disk, l.parent)
}

var (
	nameParts = regexp.MustCompile(`[A-Za-z0-9._-]+`)
	chainPart = regexp.MustCompile(`^[0-9]+-`)
)

// pointsIn are the points of the VM that a backing file's name names: ID, ID.*
// or NN-ID.*, as a component of a path or a URI.
func (l *lineage) pointsIn(backing string) (list []string) {
	for _, part := range nameParts.FindAllString(backing, maxDepth*8) {
		part = chainPart.ReplaceAllString(part, "")
		id, _, _ := strings.Cut(part, ".")
		if ids.IsID(id) && (id == l.parent || l.isPoint(id)) {
			list = append(list, id)
		}
	}
	return list
}

// diskImport is what the volume is asked for.
func (l *lineage) diskImport(src *source, size int64, mode string, d *volume.ImportDefaults) volume.DiskImport {
	r := volume.DiskImport{Disk: src.disk, Size: size, Mode: mode, Checkpoint: d.Checkpoint, Source: src.file}
	if mode == modeIncremental {
		r.Parent, r.ParentCheckpoint, r.Branch = l.parent, d.ParentCheckpoint, d.Branch
	}
	return r
}
