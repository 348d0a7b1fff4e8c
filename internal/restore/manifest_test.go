package restore

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// someManifest has one of everything.
func someManifest() *Manifest {
	h := func(size int64) DiskHash {
		c := NewContentHasher(size)
		c.Zero(0, size)
		d, _ := c.Sum()
		return d
	}
	hash := NewManifestHash(h(ChunkSize + 512))
	return &Manifest{
		Version: 1, Point: "p", VM: "vm", Time: time.Unix(1, 0).UTC(), Restored: time.Unix(2, 0).UTC(), Server: "v1",
		Disks: []ManifestDisk{
			{Disk: "vda", Size: ChunkSize + 512, Format: Raw, File: "vda.raw", ManifestHash: hash},
			{Disk: "vdb", Size: ChunkSize + 512, Format: QCOW2, ManifestHash: hash, Chain: []ManifestLayer{
				{Point: "o", File: "vdb/00-o.qcow2", Size: 512, Root: NewManifestHash(h(512)).Root},
				{Point: "p", File: "vdb/01-p.qcow2", Size: ChunkSize + 512, Root: hash.Root, Changed: []ManifestChunk{{0, ""}, {1, hash.Chunks[1]}}},
			}},
			{Disk: "vdc", Size: 0, Format: VMA, File: "/tmp/x.vma", ManifestHash: NewManifestHash(h(0))},
		},
		Files: []ManifestFile{{Name: "a/b", Size: 512, File: "b", ManifestHash: NewManifestHash(h(512))}},
		Blobs: []ManifestBlob{{Name: "domain.xml", File: "domain.xml", Size: 1, SHA256: strings.Repeat("ab", 32)}},
	}
}

func TestManifest(t *testing.T) {
	dir := t.TempDir()
	m := someManifest()
	path := filepath.Join(dir, ManifestName)
	if err := WriteManifest(path, m, false); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dir, path} {
		if got, err := ReadManifest(name); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("read back %+v, %v", got, err)
		}
	}
	if err := WriteManifest(path, m, false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("written over another: %v", err)
	}
	if _, err := ReadManifest(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
	onlyNames(t, dir, ManifestName)
}

func TestManifestRefused(t *testing.T) {
	for name, change := range map[string]func(m *Manifest){
		"nothing":           func(m *Manifest) { m.Disks, m.Files, m.Blobs = nil, nil, nil },
		"many disks":        func(m *Manifest) { m.Disks = make([]ManifestDisk, listMax+1) },
		"format":            func(m *Manifest) { m.Disks[0].Format = "vmdk" },
		"no file":           func(m *Manifest) { m.Disks[0].File = "" },
		"outside":           func(m *Manifest) { m.Disks[0].File = "../vda.raw" },
		"outside, hidden":   func(m *Manifest) { m.Disks[0].File = "a/../../vda.raw" },
		"directory":         func(m *Manifest) { m.Disks[0].File = "." },
		"size":              func(m *Manifest) { m.Disks[0].Size = -1 },
		"huge":              func(m *Manifest) { m.Disks[0].Size = sizeMax + 1 },
		"chunks":            func(m *Manifest) { m.Disks[0].Size = 3 * ChunkSize },
		"short hash":        func(m *Manifest) { m.Disks[0].Root = "ab" },
		"no hex":            func(m *Manifest) { m.Disks[0].Root = strings.Repeat("x", 64) },
		"root":              func(m *Manifest) { m.Disks[0].Root = m.Files[0].Root },
		"raw chain":         func(m *Manifest) { m.Disks[1].Format = Raw },
		"chain and file":    func(m *Manifest) { m.Disks[1].File = "x" },
		"long chain":        func(m *Manifest) { m.Disks[1].Chain = make([]ManifestLayer, listMax+1) },
		"shrunk":            func(m *Manifest) { m.Disks[1].Chain[0].Size = 2 * ChunkSize },
		"directories":       func(m *Manifest) { m.Disks[1].Chain[0].File = "vdc/00-o.qcow2" },
		"layer name":        func(m *Manifest) { m.Disks[1].Chain[0].File = "vdb/../../x" },
		"layer root":        func(m *Manifest) { m.Disks[1].Chain[0].Root = "" },
		"other disk":        func(m *Manifest) { m.Disks[1].Chain[1].Root = m.Files[0].Root },
		"order of chunks":   func(m *Manifest) { m.Disks[1].Chain[1].Changed[0].Chunk = 1 },
		"chunk beyond":      func(m *Manifest) { m.Disks[1].Chain[1].Changed[1].Chunk = 2 },
		"negative chunk":    func(m *Manifest) { m.Disks[1].Chain[1].Changed[0].Chunk = -1 },
		"chunk of no hash":  func(m *Manifest) { m.Disks[1].Chain[1].Changed[1].Hash = "0" },
		"file":              func(m *Manifest) { m.Files[0].File = "a\x00b" },
		"blob":              func(m *Manifest) { m.Blobs[0].SHA256 = "" },
		"blob's size":       func(m *Manifest) { m.Blobs[0].Size = -1 },
		"blob's file":       func(m *Manifest) { m.Blobs[0].File = "a//b" },
		"zero disk of data": func(m *Manifest) { m.Disks[2].Chunks = []string{""} },
	} {
		m := someManifest()
		change(m)
		path := filepath.Join(t.TempDir(), "m")
		if err := WriteManifest(path, m, false); err == nil {
			t.Errorf("%s: written", name)
		}
		data, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseManifest(data); err == nil {
			t.Errorf("%s: read", name)
		}
	}
	for _, text := range []string{"", "{}", "[]", `{"version":2}`, `{"version":1,"disks":[]}`, `{"version":1,"other":1}`} {
		path := filepath.Join(t.TempDir(), "m")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadManifest(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestCheckDamage verifies directories in which nothing is as the manifest says.
func TestCheckDamage(t *testing.T) {
	dir := t.TempDir()
	m := someManifest()
	m.Disks[2].File = "x.vma"
	if err := WriteManifest(filepath.Join(dir, ManifestName), m, false); err != nil {
		t.Fatal(err)
	}
	files := []string{"x.vma", "vda.raw", "vdb/00-o.qcow2", "vdb/01-p.qcow2", "b", "domain.xml"}
	for _, d := range differences(t, dir, files...) {
		if d.Reason != "it is missing" {
			t.Errorf("%+v", d)
		}
	}
	for _, f := range files { // directories instead of files
		if err := os.MkdirAll(filepath.Join(dir, f), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	differences(t, dir, files...)
	for _, f := range files { // nonsense in them
		if err := errors.Join(os.Remove(filepath.Join(dir, f)), os.WriteFile(filepath.Join(dir, f), []byte("QFI\xfb VMA"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	differences(t, dir, files...)
}

func FuzzManifest(f *testing.F) {
	data, err := json.Marshal(someManifest())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"version":1,"blobs":[{"name":"a","file":"b","size":1,"sha256":"` + strings.Repeat("00", 32) + `"}]}`))
	f.Add([]byte(`{"version":1,"disks":[{"disk":"a","size":9e99}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseManifest(data)
		if err != nil {
			return
		}
		again, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseManifest(again); err != nil {
			t.Errorf("what was read is not read again: %v", err)
		}
		for i := range m.Disks {
			for k := range m.Disks[i].Chain {
				h, err := m.Disks[i].Chain[k].hash()
				if err != nil {
					t.Fatal(err)
				}
				if size := m.Disks[i].Chain[k].Size; size < 1<<40 {
					layerChunks(nil, size, h.Changed)
				}
			}
		}
	})
}
