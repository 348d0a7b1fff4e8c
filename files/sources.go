package files

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/strongroom-backup/strongroom/internal/ids"
	"github.com/strongroom-backup/strongroom/volume"
)

const (
	formatQcow2 = "qcow2"
	formatRaw   = "raw"

	modeAuto        = "auto"
	modeFull        = "full"
	modeIncremental = "incremental"

	manifestName = "manifest.json"
	partSuffix   = ".part"
	hiddenPrefix = ".fuse_hidden" // what sshfs calls a file that was removed while open
)

// source is a file that is to become an image.
type source struct {
	file   string
	disk   string
	format string // qcow2, raw; "" when the file's first bytes are to be asked
	mode   string // auto, full or incremental
	node   *node
}

// manifest is what manifest.json holds.
type manifest struct {
	Disks []manifestDisk `json:"disks"`
}

type manifestDisk struct {
	File   string `json:"file"`
	Disk   string `json:"disk"`
	Format string `json:"format"`
	Mode   string `json:"mode"`
}

// refuse is the error of a folder that cannot be committed as it is.
func refuse(format string, a ...any) error {
	return fmt.Errorf("%w: %w", volume.ErrBadRequest, fmt.Errorf(format, a...))
}

// imageName takes the name of a disk's image apart; ok is false for other files.
func imageName(name string) (disk, format string, ok bool) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 || strings.Contains(name, "/") || !ids.IsName(name[:i]) {
		return "", "", false
	}
	switch name[i+1:] {
	case "qcow2":
		return name[:i], formatQcow2, true
	case "raw":
		return name[:i], formatRaw, true
	case "img":
		return name[:i], "", true
	}
	return "", "", false
}

// findSources says which files become which disks; mode is what holds when the
// manifest names none.
func findSources(names map[string]*node, mode string) ([]source, error) {
	sorted := slices.Sorted(maps.Keys(names))
	for _, name := range sorted {
		if strings.HasSuffix(name, partSuffix) {
			return nil, refuse("file %s is not complete, its name says; rename it when it is, or remove it, and commit again", name)
		}
	}
	var list []source
	if m := names[manifestName]; m != nil {
		disks, err := readManifest(m)
		if err != nil {
			return nil, err
		}
		for _, d := range disks {
			s := source{file: d.File, disk: d.Disk, format: d.Format, mode: d.Mode, node: names[d.File]}
			if s.mode == "" {
				s.mode = mode
			}
			if s.node == nil {
				return nil, refuse("%s names file %q, which is not there", manifestName, d.File)
			}
			list = append(list, s)
		}
	} else {
		for _, name := range sorted {
			if disk, format, ok := imageName(name); ok {
				list = append(list, source{file: name, disk: disk, format: format, mode: mode, node: names[name]})
			}
		}
	}
	seen := map[string]string{}
	for i := range list {
		if other, ok := seen[list[i].disk]; ok {
			return nil, refuse("files %s and %s are both of disk %s; keep one of them, or say in %s which is the image", other, list[i].file, list[i].disk, manifestName)
		}
		seen[list[i].disk] = list[i].file
	}
	return list, nil
}

// readManifest reads and checks manifest.json.
func readManifest(n *node) ([]manifestDisk, error) {
	size := n.glance().Size
	if size > maxManifest {
		return nil, refuse("%s has %d bytes; it may have %d", manifestName, size, maxManifest)
	}
	text := make([]byte, size)
	if _, err := n.f.ReadAt(text, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", manifestName, err)
	}
	return parseManifest(text)
}

// parseManifest takes manifest.json apart.
func parseManifest(text []byte) ([]manifestDisk, error) {
	var m manifest
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return nil, refuse(`%s: %v; it looks like {"disks":[{"file":"a.qcow2","disk":"vda","format":"qcow2","mode":"auto"}]}`, manifestName, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, refuse("%s: there is something behind the end of its JSON", manifestName)
	}
	for i, x := range m.Disks {
		bad := func(why string) error { return refuse("%s, disk %d (%.300q): %s", manifestName, i+1, x.Disk, why) }
		switch {
		case x.File == "":
			return nil, bad("it names no file")
		case !ids.IsName(x.Disk):
			return nil, bad("the disk's name has up to 128 letters, digits, '.', '_' or '-', beginning with a letter or digit")
		case x.Format != formatQcow2 && x.Format != formatRaw:
			return nil, bad("format is qcow2 or raw")
		case x.Mode != "" && x.Mode != modeAuto && x.Mode != modeFull && x.Mode != modeIncremental:
			return nil, bad("mode is auto, full or incremental")
		}
	}
	return m.Disks, nil
}
