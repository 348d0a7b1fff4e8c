package offline

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/identity"
	"github.com/strongroom-backup/strongroom/internal/overlayfs/stone"
	"github.com/strongroom-backup/strongroom/tier"
	"github.com/strongroom-backup/strongroom/volume"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("STRONGROOM_TEST_HOLD"); path != "" {
		hold(path)
	}
	goleak.VerifyTestMain(m)
}

const (
	bigDisk   = dedup.ChunkSize + 5*dedup.BlockSize + 512
	smallDisk = 3*dedup.BlockSize + 700
)

// world is a data directory made by the engines a server is made of.
type world struct {
	t      *testing.T
	dir    string
	tier   *tier.Dir
	blocks *dedup.Store
	cat    *catalog.Catalog
	vols   *volume.Manager
	points []point // oldest first
}

type point struct {
	id    string
	disks map[string][]byte
}

// newWorld backs up a VM three times: all of it, a few blocks of both disks, one
// disk alone.
func newWorld(t *testing.T) *world {
	w := &world{t: t, dir: t.TempDir()}
	id := identity.Identity{Format: identity.Format, Domain: 1, StoreID: strings.Repeat("5a", 16), DomainKey: strings.Repeat("c3", 32)}
	text, err := json.Marshal(id)
	w.must(err)
	if id, err = identity.Parse(text); err != nil {
		t.Fatal(err)
	}
	w.tier, err = tier.CreateDir(vfs.Default, filepath.Join(w.dir, tierName), id.Store)
	w.must(err)
	for _, path := range []string{w.dir, filepath.Join(w.dir, tierName)} {
		w.must(os.WriteFile(filepath.Join(path, identity.FileName), text, 0o600))
	}
	w.blocks, err = dedup.Open(dedup.Options{FS: vfs.Default, Dir: filepath.Join(w.dir, "index"), Tier: w.tier,
		Key: id.Key, StoreID: id.Store, Domain: id.Domain, PackSize: dedup.MinPackSize})
	w.must(err)
	w.cat, err = catalog.Open(catalog.Options{FS: vfs.Default, Dir: filepath.Join(w.dir, "catalog"), MetaDir: filepath.Join(w.dir, tierName, metaName),
		StoreID: id.Store, Domain: id.Domain, RootHash: w.blocks.RootHash})
	w.must(err)
	w.vols, err = volume.OpenManager(volume.Options{FS: vfs.Default, Dir: filepath.Join(w.dir, "sessions"), Blocks: w.blocks, Catalog: w.cat, BootID: "boot"})
	w.must(err)
	t.Cleanup(w.stop)

	rng := rand.New(rand.NewPCG(1, 2))
	w.backup("vda", "vdb")(func(disk string, write func([]byte, int64)) {
		if disk == "vdb" {
			write(noise(rng, smallDisk), 0)
			return
		}
		write(noise(rng, 40*dedup.BlockSize+99), dedup.BlockSize)
		write(noise(rng, 700), bigDisk-700)
		write(bytes.Repeat([]byte("text "), 100_000), dedup.ChunkSize-300_000)
	})
	w.backup("vda", "vdb")(func(disk string, write func([]byte, int64)) { write(noise(rng, 100_000), 11_111) })
	w.backup("vda")(func(_ string, write func([]byte, int64)) { write(noise(rng, 2000), dedup.ChunkSize-1000) })
	return w
}

func noise(rng *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(rng.Uint32())
	}
	return p
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// backup makes a point of the disks; change writes to each of them.
func (w *world) backup(disks ...string) func(change func(disk string, write func(p []byte, off int64))) {
	return func(change func(string, func([]byte, int64))) {
		r := volume.StartRequest{VM: "web", Mode: "auto", Files: len(w.points)%2 == 0, // those are not compressed yet
			Blobs: []catalog.Blob{{Name: "domain.xml", Data: []byte("<domain/>")}}}
		for _, d := range disks {
			r.Disks = append(r.Disks, volume.DiskSpec{Name: d, Size: map[string]int64{"vda": bigDisk, "vdb": smallDisk}[d]})
		}
		st, err := w.vols.Start(r)
		w.must(err)
		p := point{disks: map[string][]byte{}}
		for _, ds := range st.Disks {
			p.disks[ds.Disk] = bytes.Clone(w.content(ds.Parent, ds.Disk))
			if p.disks[ds.Disk] == nil {
				p.disks[ds.Disk] = make([]byte, ds.Size)
			}
			x, err := w.vols.OpenExport(ds.Token)
			w.must(err)
			change(ds.Disk, func(b []byte, off int64) {
				_, err := x.WriteAt(b, off)
				w.must(err)
				copy(p.disks[ds.Disk][off:], b)
			})
			w.must(x.Close())
		}
		rec, err := w.vols.Commit(st.Session)
		w.must(err)
		p.id = rec.Point
		w.points = append(w.points, p)
	}
}

func (w *world) content(id, disk string) []byte {
	for _, p := range w.points {
		if p.id == id {
			return p.disks[disk]
		}
	}
	return nil
}

// stop closes the engines, as a server that ends well does.
func (w *world) stop() {
	if w.vols == nil {
		return
	}
	w.must(errors.Join(w.vols.Close(), w.cat.Close(), w.blocks.Close()))
	w.vols = nil
}

// loseDatabases deletes what can be made again.
func (w *world) loseDatabases() {
	for _, name := range []string{"catalog", "index", "sessions", "LOCK"} {
		w.must(os.RemoveAll(filepath.Join(w.dir, name)))
	}
}

// open opens the directory on a file system that lets nothing be changed.
func (w *world) open() *Store {
	w.t.Helper()
	s, err := Open(w.dir, Options{FS: stone.FS{FS: vfs.Default, Fail: w.t.Errorf}})
	w.must(err)
	w.t.Cleanup(func() { s.Close() })
	return s
}

// fingerprint is every name in the directory with size, time, mode and content.
func (w *world) fingerprint() string {
	var b strings.Builder
	w.must(filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		w.must(err)
		b.WriteString(path + info.Mode().String() + info.ModTime().String())
		if info.Mode().IsRegular() {
			text, err := os.ReadFile(path)
			w.must(err)
			sum := crc32.ChecksumIEEE(text)
			b.WriteString(hex.EncodeToString([]byte{byte(sum), byte(sum >> 8), byte(sum >> 16), byte(sum >> 24)}))
		}
		b.WriteByte('\n')
		return nil
	}))
	return b.String()
}

// packs are the files of the packs.
func (w *world) packs() []string {
	paths, err := filepath.Glob(filepath.Join(w.dir, tierName, "packs", "*", "*.pack"))
	w.must(err)
	if len(paths) < 3 {
		w.t.Fatalf("only %d packs", len(paths))
	}
	return paths
}

// logs are the files of the metadata log.
func (w *world) logs() []string {
	paths, err := filepath.Glob(filepath.Join(w.dir, tierName, metaName, "*.mlog"))
	w.must(err)
	return paths
}
