package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/internal/testdisk"
	"github.com/strongroom-backup/strongroom/server/api"
)

const blockSize = 64 << 10

// chained is a VM whose disk was backed up in a full and many incrementals.
type chained struct {
	s       *scene
	model   []byte
	points  []api.Receipt
	want    [][]byte // the disk at each point
	changed [][]int  // the blocks that differ from the point before, in order; of the first: those that are no zeros
}

// chain makes a full and n incrementals over NBD, each of a few random blocks,
// some of them zeros where data was.
func chain(s *scene, size int64, n int) *chained {
	s.Helper()
	c := &chained{s: s, model: make([]byte, size)}
	rng := rand.New(rand.NewPCG(4, 63))
	for i := range n + 1 {
		before := bytes.Clone(c.model)
		mode := "incremental"
		if i == 0 {
			mode = "full"
		}
		b, err := s.srv.StartBackup(s.ctx, "vm", "--disk", fmt.Sprintf("vda=%d", size), "--mode", mode,
			"--blob", "domain.xml="+base.Files[0])
		s.must(err)
		w := s.open(b, 0)
		for range 3 + 30*(n-i)/n {
			off := rng.Int64N(size/512) * 512
			data := noise(rng.Uint64(), int(min(size-off, 512*(1+rng.Int64N(200)))))
			copy(c.model[off:], data)
			_, err := w.WriteAt(data, off)
			s.must(err)
		}
		at := rng.Int64N(size/blockSize-1) * blockSize
		clear(c.model[at : at+blockSize])
		s.must(w.Zero(at, blockSize), w.Close())
		c.points = append(c.points, s.commit(b))
		c.want = append(c.want, bytes.Clone(c.model))
		c.changed = append(c.changed, changedBlocks(before, c.model))
	}
	return c
}

func changedBlocks(before, now []byte) (list []int) {
	for off := 0; off < len(now); off += blockSize {
		end := min(off+blockSize, len(now))
		if !bytes.Equal(before[off:end], now[off:end]) {
			list = append(list, off/blockSize)
		}
	}
	return list
}

// alone names a qcow2 to QEMU's tools without the files behind it: a chain of
// 64 is not opened for each of its files.
func alone(file string) string {
	return fmt.Sprintf(`json:{"driver":"qcow2","backing":null,"file":{"driver":"file","filename":%q}}`, file)
}

// allocated are the blocks a qcow2 itself holds, as data or as zeros.
func (s *scene) allocated(file string) (data, zeros []int) {
	s.Helper()
	var extents []struct {
		Start, Length       int64
		Data, Zero, Present bool
	}
	s.must(json.Unmarshal([]byte(s.tool("qemu-img", "map", "--output=json", alone(file))), &extents))
	for _, e := range extents {
		if !e.Present {
			continue
		}
		for b := e.Start / blockSize; b*blockSize < e.Start+e.Length; b++ {
			if e.Data {
				data = append(data, int(b))
			} else {
				zeros = append(zeros, int(b))
			}
		}
	}
	return data, zeros
}

// backing is the backing file a qcow2 names, and its format.
func (s *scene) backing(file string) (name, format string) {
	s.Helper()
	var info struct {
		Backing string `json:"backing-filename"`
		Format  string `json:"backing-filename-format"`
	}
	s.must(json.Unmarshal([]byte(s.tool("qemu-img", "info", "--output=json", "-f", "qcow2", file)), &info))
	return info.Backing, info.Format
}

// TestRestoreTree reads points with 1, 2 and 63 incrementals from a mount: the
// flat files, and the chains, of which every file holds its own changes only.
func TestRestoreTree(t *testing.T) {
	t.Parallel()
	s := newFileScene(t)
	c := chain(s, 9<<20+512, 63)
	root := s.restores("vm")
	for _, n := range []int{1, 2, 63} {
		dir := filepath.Join(root, c.points[n].Point)
		want := s.path(fmt.Sprintf("want%d.raw", n))
		s.put(want, c.want[n])
		if names := s.names(dir); !slices.Equal(names, []string{"domain.xml", "vda.chain", "vda.qcow2", "vda.raw"}) {
			t.Errorf("point %d: %v", n, names)
		}
		s.must(testdisk.Equal(want, filepath.Join(dir, "vda.raw")), testdisk.Equal(base.Files[0], filepath.Join(dir, "domain.xml")))
		c.flat(n, filepath.Join(dir, "vda.qcow2"), want)
		c.chain(n, filepath.Join(dir, "vda.chain"), want)
		s.times(dir, c.points[n].Time)
		for i, name := range s.names(filepath.Join(dir, "vda.chain")) {
			s.times(filepath.Join(dir, "vda.chain", name), c.points[i].Time)
		}
	}
	c.aliases(root)
	c.overlay(filepath.Join(root, c.points[2].Point, "vda.qcow2"), c.want[2])
	s.mountedAt("/restore/vm/"+c.points[1].Point, c.want[1])
	s.readOnly(filepath.Join(root, c.points[63].Point))
}

// flat checks the one-file qcow2: clean, equal, and with no more than the
// blocks that are not zeros.
func (c *chained) flat(n int, file, want string) {
	c.s.Helper()
	s := c.s
	s.tool("qemu-img", "check", "-q", "-f", "qcow2", file)
	s.tool("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", file, want)
	data, _ := s.allocated(file)
	if full := changedBlocks(make([]byte, len(c.want[n])), c.want[n]); !slices.Equal(data, full) {
		s.Errorf("point %d: the flat file holds %d blocks, %d are not zeros", n, len(data), len(full))
	}
	out := s.path("converted.raw")
	s.tool("qemu-img", "convert", "-f", "qcow2", "-O", "raw", file, out)
	s.must(testdisk.Equal(want, out))
}

// chain checks the chain up to point n: names, backing files, what each file
// holds, and that a copy on another disk opens and is equal.
func (c *chained) chain(n int, dir, want string) {
	c.s.Helper()
	s := c.s
	names := s.names(dir)
	if len(names) != n+1 {
		s.Fatalf("the chain of point %d is %v", n, names)
	}
	for i, name := range names {
		if !strings.HasSuffix(name, "-"+c.points[i].Point+".qcow2") {
			s.Errorf("file %d of point %d's chain is %s", i, n, name)
		}
		file := filepath.Join(dir, name)
		s.tool("qemu-img", "check", "-q", alone(file))
		backing, format := s.backing(file)
		if i == 0 && backing != "" || i > 0 && (backing != names[i-1] || format != "qcow2") {
			s.Errorf("%s: its backing file is %q (%s)", name, backing, format)
		}
		data, zeros := s.allocated(file)
		if all := slices.Sorted(slices.Values(append(data, zeros...))); i > 0 && !slices.Equal(all, c.changed[i]) {
			s.Errorf("%s holds blocks %v, the backup changed %v", name, all, c.changed[i])
		} else if i == 0 && !slices.Equal(data, c.changed[0]) {
			s.Errorf("%s holds %d blocks of data, the full backup had %d", name, len(data), len(c.changed[0]))
		}
	}
	last := names[n]
	s.tool("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", filepath.Join(dir, last), want)
	local := s.path(fmt.Sprintf("copied%d", n))
	s.tool("cp", "-r", dir, local)
	s.tool("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", filepath.Join(local, last), want)
	s.must(os.RemoveAll(local))
}

// times checks that everything of a point has the point's time; the files of a
// chain have those of the points they came with.
func (s *scene) times(path string, want time.Time) {
	s.Helper()
	s.must(filepath.WalkDir(path, func(at string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.ModTime().Sub(want).Abs() > time.Second {
			s.Errorf("%s is of %v, the point of %v", at, info.ModTime(), want)
		}
		if e.IsDir() && at != path {
			return fs.SkipDir
		}
		return err
	}))
}

// overlay writes to a disk that has a point's file for its backing file, as a
// VM does that runs from its backup.
func (c *chained) overlay(backing string, want []byte) {
	c.s.Helper()
	s := c.s
	file := s.path("overlay.qcow2")
	s.tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F", "qcow2", file)
	s.tool("qemu-io", "-f", "qcow2", "-c", "write -q -P 90 1M 3000", file)
	model := bytes.Clone(want)
	copy(model[1<<20:], bytes.Repeat([]byte{90}, 3000))
	s.put(s.path("overlay.raw"), model)
	s.tool("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", file, s.path("overlay.raw"))
}

// mountedAt mounts a point's own folder, and nothing above it.
func (s *scene) mountedAt(folder string, want []byte) {
	s.Helper()
	d := s.drop("vm")
	d.client.Path = folder
	s.sameFile(filepath.Join(d.mount(), "vda.raw"), want)
}

// aliases reaches points by other names than their ids.
func (c *chained) aliases(root string) {
	c.s.Helper()
	last := len(c.points) - 1
	if names := c.s.names(root); len(names) != len(c.points) {
		c.s.Errorf("%d points are listed, not %d", len(names), len(c.points))
	}
	for alias, n := range map[string]int{"latest": last, "latest~1": last - 1, c.points[0].Time.UTC().Format("2006-01-02T15:04:05.000Z"): 0} {
		got, err := os.ReadFile(filepath.Join(root, alias, "vda.raw"))
		if err != nil || !bytes.Equal(got, c.want[n]) {
			c.s.Errorf("%s: %d bytes, not point %d; %v", alias, len(got), n, err)
		}
	}
	c.s.absent(filepath.Join(root, "latest~64"))
	c.s.absent(filepath.Join(root, "nonsense"))
	c.s.absent(filepath.Join(filepath.Dir(root), "another-vm"))
}

// readOnly tries to change a point's folder in every way.
func (s *scene) readOnly(dir string) {
	s.Helper()
	raw := filepath.Join(dir, "vda.raw")
	for what, err := range map[string]error{
		"a new file":   os.WriteFile(filepath.Join(dir, "new"), nil, 0o600),
		"a new folder": os.Mkdir(filepath.Join(dir, "new"), 0o700),
		"a removal":    os.Remove(raw),
		"a rename":     os.Rename(raw, filepath.Join(dir, "other.raw")),
		"a link":       os.Link(raw, filepath.Join(dir, "other.raw")),
		"a truncation": os.Truncate(raw, 0),
		"a write":      os.WriteFile(raw, []byte("x"), 0o600),
	} {
		if err == nil {
			s.Errorf("%s went through in %s", what, dir)
		}
	}
}
