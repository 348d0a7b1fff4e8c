package files

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/sftp"
	"github.com/strongroom-backup/strongroom/tier"
	"github.com/strongroom-backup/strongroom/volume"
)

// world is the whole engine under the trees.
type world struct {
	t     testing.TB
	fs    vfs.FS
	dir   string
	boot  string
	mu    sync.Mutex
	clock time.Time

	store *dedup.Store
	cat   *catalog.Catalog
	m     *volume.Manager
	s     *Service
}

func newWorld(t testing.TB) *world { return newWorldOn(t, vfs.NewMem(), "data") }

func newWorldOn(t testing.TB, fs vfs.FS, dir string) *world {
	w := &world{t: t, fs: fs, dir: dir, boot: "boot-1", clock: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	w.start()
	t.Cleanup(w.stop)
	return w
}

// now is a clock that moves by a millisecond whenever it is looked at.
func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock = w.clock.Add(time.Millisecond)
	return w.clock
}

func (w *world) start() {
	w.t.Helper()
	must := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	id := [16]byte{1}
	tr, err := tier.CreateDir(w.fs, w.dir+"/tier0", id)
	must(err)
	w.store, err = dedup.Open(dedup.Options{FS: w.fs, Dir: w.dir + "/index", Tier: tr, StoreID: id})
	must(err)
	w.cat, err = catalog.Open(catalog.Options{FS: w.fs, Dir: w.dir + "/catalog", MetaDir: w.dir + "/tier0/meta", StoreID: id,
		RootHash: w.store.RootHash, Clock: w.now})
	must(err)
	var s *Service // the manager's events come from operations of the service's
	closed := func(session, _ string, _ volume.State) {
		if s != nil {
			s.Release(session)
		}
	}
	w.m, err = volume.OpenManager(volume.Options{FS: w.fs, Dir: w.dir + "/sessions", Blocks: w.store, Catalog: w.cat, Clock: w.now,
		BootID: w.boot, Events: volume.Events{Closed: closed}})
	must(err)
	s = New(Options{Volumes: w.m, Catalog: w.cat, Blocks: w.store, Clock: w.now})
	w.s = s
}

func (w *world) stop() {
	w.t.Helper()
	w.s.Close()
	if n := w.s.pieces.inUse(); n != 0 {
		w.t.Errorf("%d pieces are still out", n)
	}
	if n := w.m.Stats().ReadAheadBytes; n != 0 {
		w.t.Errorf("%d bytes read ahead are still out", n)
	}
	for _, close := range []func() error{w.m.Close, w.cat.Close, w.store.Close} {
		if err := close(); err != nil {
			w.t.Error(err)
		}
	}
}

// restart is a clean stop and start.
func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.start()
}

// within lets failures be a subtest's.
func (w *world) within(t *testing.T) {
	outer := w.t
	w.t = t
	t.Cleanup(func() { w.t = outer })
}

// job opens a session for files and its tree.
func (w *world) job(vm string, more ...func(*volume.StartRequest)) (string, sftp.Tree) {
	w.t.Helper()
	r := volume.StartRequest{VM: vm, Files: true}
	for _, f := range more {
		f(&r)
	}
	st, err := w.m.Start(r)
	if err != nil {
		w.t.Fatal(err)
	}
	return st.Session, w.tree(st.Session, "c1")
}

func (w *world) tree(session, conn string) sftp.Tree {
	w.t.Helper()
	t, err := w.s.JobTree(session, conn)
	if err != nil {
		w.t.Fatal(err)
	}
	return t
}

func (w *world) user(u User, conn string) sftp.Tree {
	w.t.Helper()
	t, err := w.s.UserTree(u, conn)
	if err != nil {
		w.t.Fatal(err)
	}
	return t
}

func (w *world) commit(session string) volume.Receipt {
	w.t.Helper()
	r, err := w.s.Commit(w.t.Context(), session, CommitOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// backup sends files and commits them.
func (w *world) backup(vm string, files map[string][]byte, more ...func(*volume.StartRequest)) volume.Receipt {
	w.t.Helper()
	session, tree := w.job(vm, more...)
	for name, data := range files {
		w.send(tree, name, data)
	}
	return w.commit(session)
}

var create = sftp.OpenFlags{Read: true, Write: true, Create: true, Truncate: true}
var readOnly = sftp.OpenFlags{Read: true}

func (w *world) open(t sftp.Tree, name string, f sftp.OpenFlags) sftp.File {
	w.t.Helper()
	x, err := t.Open(name, f, 0o644)
	if err != nil {
		w.t.Fatalf("open %s: %v", name, err)
	}
	return x
}

// send writes a file as clients do, 64 KiB at a time.
func (w *world) send(t sftp.Tree, name string, data []byte) {
	w.t.Helper()
	x := w.open(t, name, create)
	for off := 0; off < len(data); off += 64 << 10 {
		if _, err := x.WriteAt(data[off:min(off+64<<10, len(data))], int64(off)); err != nil {
			w.t.Fatalf("write %s: %v", name, err)
		}
	}
	if err := x.Close(); err != nil {
		w.t.Fatalf("close %s: %v", name, err)
	}
}

// get reads a file as clients do.
func (w *world) get(t sftp.Tree, name string) []byte {
	w.t.Helper()
	x := w.open(t, name, readOnly)
	defer x.Close()
	st, err := x.Stat()
	if err != nil {
		w.t.Fatal(err)
	}
	data := make([]byte, st.Size)
	for off := 0; off < len(data); off += 64 << 10 {
		n, err := x.ReadAt(data[off:min(off+64<<10, len(data))], int64(off))
		if err != nil && !(errors.Is(err, io.EOF) && off+n == len(data)) {
			w.t.Fatalf("read %s at %d: %v", name, off, err)
		}
	}
	if n, err := x.ReadAt(make([]byte, 1), st.Size); n != 0 || !errors.Is(err, io.EOF) {
		w.t.Fatalf("read behind the end of %s: %d, %v", name, n, err)
	}
	return data
}

// fetch writes a file of a tree to the local disk.
func (w *world) fetch(t sftp.Tree, name, to string) string {
	w.t.Helper()
	if err := os.WriteFile(to, w.get(t, name), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return to
}

func (w *world) names(t sftp.Tree, dir string) (names []string) {
	w.t.Helper()
	for after := ""; ; {
		list, err := t.ReadDir(dir, after, 3)
		if err != nil {
			w.t.Fatalf("list %s: %v", dir, err)
		}
		if len(list) == 0 {
			return names
		}
		for _, e := range list {
			names = append(names, e.Name)
		}
		after = names[len(names)-1]
	}
}

// seeded is a source of random numbers whose seed is told when the test fails.
func seeded(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("STRONGROOM_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("STRONGROOM_SEED=%d", seed)
		}
	})
	h := fnv.New64a()
	io.WriteString(h, t.Name())
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// noise is n random bytes.
func noise(r *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

// disk is random content with holes: of blocks of 64 KiB, about a third are zero.
func disk(r *rand.Rand, size int) []byte {
	p := make([]byte, size)
	for off := 0; off < size; off += 64 << 10 {
		if r.IntN(3) > 0 {
			copy(p[off:], noise(r, min(64<<10, size-off)))
		}
	}
	return p
}

// qemu runs a tool of QEMU's and returns what it prints.
func qemu(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// local writes a file and returns its path.
func local(t testing.TB, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func slurp(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// image reads a whole image.
func (w *world) image(point, disk string) []byte {
	w.t.Helper()
	x, err := w.m.OpenImage(point, disk)
	if err != nil {
		w.t.Fatal(err)
	}
	defer x.Close()
	p := make([]byte, x.Size())
	if _, err := x.ReadAt(p, 0); err != nil {
		w.t.Fatal(err)
	}
	return p
}

func root(r volume.Receipt, disk string) string {
	for _, im := range r.Images {
		if im.Disk == disk {
			return im.Root
		}
	}
	return fmt.Sprintf("point %s has no disk %s", r.Point, disk)
}
