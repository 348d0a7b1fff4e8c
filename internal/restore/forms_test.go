package restore

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/nbdclient"
	"github.com/strongroom-backup/strongroom/internal/vma"
)

// form is a way to write a disk into a directory.
type form struct {
	name  string
	files int // it makes
	run   func(ctx context.Context, dir string, t nbdclient.Target, size int64, verify bool, e Events) (DiskHash, error)
}

func forms() []form {
	disk := func(f Format) form {
		return form{string(f), 1, func(ctx context.Context, dir string, t nbdclient.Target, size int64, verify bool, e Events) (DiskHash, error) {
			r, err := Disk{Target: t, Size: size, Output: filepath.Join(dir, "out"), Format: f, Verify: verify, Events: e}.Run(ctx)
			return r.Hash, err
		}}
	}
	chain := func(sub string) form {
		return form{"chain" + sub, 1, func(ctx context.Context, dir string, t nbdclient.Target, size int64, verify bool, e Events) (DiskHash, error) {
			r, err := Chain{Layers: []Layer{{"p", t, size}}, Dir: filepath.Join(dir, sub), Verify: verify, Events: e}.Run(ctx)
			return r.Hash, err
		}}
	}
	return []form{disk(Raw), disk(QCOW2), chain(""), chain("new"), {"vma", 1, func(ctx context.Context, dir string, t nbdclient.Target, size int64, verify bool, e Events) (DiskHash, error) {
		a := Archive{Disks: []ArchiveDisk{{"vda", t, size}}, Blobs: []vma.Config{{Name: "c", Data: []byte("x")}}, Output: filepath.Join(dir, "out"), Verify: verify, Events: e}
		list, err := a.Run(ctx)
		if err != nil {
			return DiskHash{}, err
		}
		return list[0].Hash, nil
	}}}
}

func TestForms(t *testing.T) {
	path, content := makeDisk(t)
	good := serve(t, "file", path)
	damaged := serve(t, "--filter=error", "file", path, "error-pread=EIO", "error-pread-rate=90%")
	for _, f := range forms() {
		t.Run(f.name, func(t *testing.T) {
			dir := t.TempDir()
			if h, err := f.run(t.Context(), dir, good, diskSize, true, Events{}); err != nil || !equalHash(h, reference(content)) {
				t.Errorf("%v, or the hash is wrong", err)
			}

			dir = t.TempDir()
			var damage *DamageError
			if _, err := f.run(t.Context(), dir, damaged, diskSize, false, Events{}); !errors.As(err, &damage) {
				t.Errorf("a damaged backup: %v", err)
			}
			if _, err := f.run(t.Context(), dir, good, diskSize-512, false, Events{}); err == nil {
				t.Error("a disk of another size")
			}
			enough := errors.New("enough")
			for _, step := range []string{StepCopy, StepVerify} {
				ctx, stop := context.WithCancelCause(t.Context())
				if _, err := f.run(ctx, dir, good, diskSize, true, Events{Begin: func(s string, _ int64) {
					if s == step {
						stop(enough)
					}
				}}); !errors.Is(err, enough) {
					t.Errorf("stopped in step %s: %v", step, err)
				}
			}

			// A bit that changes before it is read back.
			var mismatch *MismatchError
			_, err := f.run(t.Context(), dir, good, diskSize, true, Events{Begin: func(s string, _ int64) {
				if s == StepVerify {
					flipIn(t, dir, content[6<<20:][:64])
				}
			}})
			if !errors.As(err, &mismatch) || len(mismatch.Ranges) != 1 || mismatch.Ranges[0] != (Range{0, diskSize}) {
				t.Errorf("a changed bit: %v", err)
			}
			onlyNames(t, dir)
		})
	}
}

// flipIn changes a bit of the file below dir that has the pattern.
func flipIn(t *testing.T, dir string, pattern []byte) {
	found := false
	filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if at := bytes.Index(data, pattern); err == nil && at >= 0 {
			found = true
			flip(t, path, int64(at))
		}
		return err
	})
	if !found {
		t.Error("no file has what was written")
	}
}
