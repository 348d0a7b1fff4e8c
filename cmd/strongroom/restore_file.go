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
	return nil
}

// restoreFile writes the file as it came.
func (j *restoreJob) restoreFile(ctx context.Context, r *restored) error {
	r.File = &restoredFile{Name: j.source.Name, Size: j.source.Size, File: j.file}
	done, err := j.copyFile(ctx)
	if err != nil {
		return fmt.Errorf("file %s of %s@%s: %w", j.source.Name, j.point.VM, j.point.Point, err)
	}
	r.File.Data = done.Data
	j.record.Files = []restore.ManifestFile{{
		Name: j.source.Name, Size: j.source.Size, File: j.nameOf(j.file), ManifestHash: restore.NewManifestHash(done.Hash),
	}}
	return nil
}

func (j *restoreJob) copyFile(ctx context.Context) (r restore.Result, err error) {
	if j.source.Size == 0 {
		if r.Hash, err = restore.NewContentHasher(0).Sum(); err != nil || j.file == stdoutName {
			return r, err
		}
		return r, restore.WriteFile(j.file, nil, j.force)
	}
	target := j.nbd
	target.Export = j.point.VM + ":/" + j.source.Name + "@" + j.point.Point
	d := restore.Disk{
		Target: target, Size: j.source.Size, Output: j.file, Format: restore.Raw, Force: j.force, Verify: j.verify,
		Events: j.events(path.Base(j.source.Name)),
	}
	if d.Output == stdoutName {
		return d.Stream(ctx, j.stdout)
	}
	return d.Run(ctx)
}
