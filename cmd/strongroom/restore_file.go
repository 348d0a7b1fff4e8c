package main

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/strongroom-backup/strongroom/internal/restore"
	"github.com/strongroom-backup/strongroom/server/api"
)

// restoredFile is the answer of a file's restore, and its JSON.
type restoredFile struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
	Data int64  `json:"data_bytes"` // read from the server; the rest is zeros
	File string `json:"file"`
}

// chooseFile finds a file of the point, and where it goes: into output, or below
// it by the last part of its name.
func (j *restoreJob) chooseFile(name, output string) error {
	for _, f := range j.point.Files {
		if f.Name == name {
			j.source = &f
		}
	}
	if j.source == nil {
		return &api.Error{Status: 404, Message: fmt.Sprintf("point %s of %s has no file %q", j.point.Point, j.point.VM, name),
			Hint: "strongroom point show " + j.point.Point + " lists them"}
	}
	j.file = output
	if st, err := os.Stat(output); err == nil && st.IsDir() || strings.HasSuffix(output, "/") {
		j.dir = output
		j.file = filepath.Join(output, path.Base(name))
	}
	return restore.CheckOutput(j.file, j.force)
}

func (j *restoreJob) runFile(ctx context.Context) (r restored, err error) {
	r = restored{Point: j.point.Point, VM: j.point.VM, Disks: []restoredDisk{}}
	if j.dir != "" {
		if err := os.MkdirAll(j.dir, 0o700); err != nil {
			return r, err
		}
	}
	r.File = &restoredFile{Name: j.source.Name, Size: j.source.Size, File: j.file}
	if j.source.Size == 0 {
		return r, restore.WriteFile(j.file, nil, j.force)
	}
	target := j.nbd
	target.Export = j.point.VM + ":/" + j.source.Name + "@" + j.point.Point
	d := restore.Disk{Target: target, Size: j.source.Size, Output: j.file, Format: restore.Raw, Force: j.force}
	if j.bar != nil {
		d.Events.Begin = func(_ string, n int64) { j.bar.ChangeMax64(max(n, 1)) }
		d.Events.Progress = func(n int64) { j.bar.Add64(n) }
		defer j.bar.Clear()
	}
	done, err := d.Run(ctx)
	r.File.Data = done.Data
	if err != nil {
		return r, fmt.Errorf("file %s of %s@%s: %w", j.source.Name, j.point.VM, j.point.Point, err)
	}
	return r, nil
}
