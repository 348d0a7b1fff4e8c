package files

import (
	"encoding/json"
	"errors"
	"io/fs"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/ids"
	"github.com/strongroom-backup/strongroom/volume"
)

// A manifest is refused, or names disks that may be there, and reads the same
// when it is written again.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"disks":[{"file":"a/b.qcow2","disk":"root","format":"qcow2","mode":"auto"}]}`))
	f.Add([]byte(`{"disks":[]}`))
	f.Add([]byte(`{"disks":[{"file":"x","disk":"vda","format":"raw"}]} {}`))
	f.Add([]byte("\xff{"))
	f.Fuzz(func(t *testing.T, text []byte) {
		disks, err := parseManifest(text)
		if err != nil {
			if !errors.Is(err, volume.ErrBadRequest) {
				t.Fatal(err)
			}
			return
		}
		for _, d := range disks {
			if !ids.IsName(d.Disk) || d.File == "" {
				t.Fatalf("%+v", d)
			}
		}
		again, err := json.Marshal(manifest{Disks: disks})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := parseManifest(again); err != nil || len(got) != len(disks) {
			t.Fatalf("%v, %d disks of %d", err, len(got), len(disks))
		}
	})
}

// A backing file's name leads to no point but the VM's.
func FuzzBacking(f *testing.F) {
	const id = "06gzhmzaad8tha6w"
	for _, s := range []string{"vda.qcow2", "/mnt/restore/vm/" + id + "/vda.qcow2", "07-" + id + ".qcow2", "json:{}", "nbd://h/vm%2fvda@" + id, "\x00\xff/" + id} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, backing string) {
		l := lineage{vm: "vm", disk: "vda", parent: id, file: "vda.qcow2", isPoint: func(string) bool { return false }}
		for _, got := range l.pointsIn(backing) {
			if got != id {
				t.Fatalf("%q names point %q", backing, got)
			}
		}
		for _, mode := range []string{modeAuto, modeFull, modeIncremental} {
			if got, err := l.decide(mode, backing); err == nil && (got == modeFull) != (backing == "" && mode != modeIncremental) {
				t.Fatalf("%s over %q becomes %s", mode, backing, got)
			}
		}
	})
}

// A name is refused, or stays what it is.
func FuzzName(f *testing.F) {
	for _, s := range []string{"a", "a/b", "..", "a/../b", "/x", "a//b", "\x00", "é", "a/b/c/d/e/f/g/h/i"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		err := checkName(name)
		if err != nil && !errors.Is(err, fs.ErrInvalid) {
			t.Fatal(err)
		}
		if err == nil && (!fs.ValidPath(name) || name == ".") {
			t.Fatalf("%q is accepted", name)
		}
	})
}
