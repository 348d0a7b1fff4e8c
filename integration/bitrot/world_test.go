package bitrot

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/crashfs"
	"github.com/strongroom-backup/strongroom/maintenance"
	"github.com/strongroom-backup/strongroom/volume"
)

// world is a data directory and everything that can be asked of it.
type world struct {
	name     string
	fs       *crashfs.FS
	files    map[string][]byte // every file of fs
	stale    map[string][]byte // an older content of those that changed
	points   []*point
	sessions []*session
	dump     string                   // of the catalog
	states   map[string]volume.Status // of all backups
	notices  []string                 // of opening it undamaged
}

// point is a recovery point and where its blocks lie.
type point struct {
	id, vm, blob string
	trashed      bool
	images       map[string]content
	addrs        map[string][]dedup.Addr // by disk, one for every block
}

// session is an open backup: what its client has an answer for.
type session struct {
	id, vm, blob string
	disks        []*disk
}

type disk struct {
	name, token string
	want        content
}

// builder makes a world by using the engines.
type builder struct {
	e        *engine
	fs       *crashfs.FS
	rng      *rand.Rand
	pool     [][]byte
	points   []*point
	sessions []*session
	moments  []map[string][]byte
}

// Sizes of the disks: one of two chunks that ends inside a block, a small one,
// and one of more chunks than a session keeps in memory.
const (
	bigDisk   = dedup.ChunkSize + 3*dedup.BlockSize + 7*512
	smallDisk = 5*dedup.BlockSize + 1000
	wideDisk  = 300 * dedup.ChunkSize
)

// build makes two worlds with one history: one that was closed, one whose
// process was killed.
func build(seed uint64) (clean, killed *world, err error) {
	b := &builder{fs: crashfs.New(), rng: rand.New(rand.NewPCG(seed, 1))}
	for i := range 20 {
		b.pool = append(b.pool, newBlock(b.rng, i%3))
	}
	if err := b.history(); err != nil {
		return nil, nil, fmt.Errorf("make a world: %w", err)
	}
	k := b.fs.Kill()
	if err := b.e.stop(); err != nil {
		return nil, nil, err
	}
	if clean, err = b.finish("closed", b.fs); err == nil {
		killed, err = b.finish("killed", k)
	}
	return clean, killed, err
}

// history is everything that ever happened in the worlds.
func (b *builder) history() error {
	return inOrder(
		b.identity,
		b.open,
		b.backup("alpha", "full"), b.backup("alpha", "auto"), b.backup("beta", "full"),
		b.reopen,
		b.backup("alpha", "auto"), b.backup("beta", "auto"),
		b.tornPack,
		b.backup("gamma", "full"), b.backup("alpha", "auto"),
		b.failedSync,
		b.remove("alpha", 0),
		b.backup("beta", "auto"), b.backup("alpha", "full"),
		b.reopen,
		b.backup("gamma", "auto"),
		b.protect,
		b.remove("beta", 0), b.remove("alpha", 0),
		b.merge,
		b.collect,
		b.session("delta", "full", true),
		b.reopen,
		b.backup("alpha", "auto"),
		b.session("alpha", "auto", false), b.session("beta", "auto", true),
		b.wideSession,
		b.tables,
		b.tornPack,
		b.session("sigma", "full", true),
	)
}

// tables makes backups and opens everything again until the catalog consists of
// several tables.
func (b *builder) tables() error {
	for range 8 {
		n := 0
		files, err := tree(b.fs)
		if err != nil {
			return err
		}
		for name := range files {
			if kindOf(name) == "catalog table" {
				n++
			}
		}
		if n > 1 {
			return nil
		}
		if err := inOrder(b.backup("beta", "auto"), b.reopen); err != nil {
			return err
		}
	}
	return errors.New("the catalog is one table, whatever is done")
}

func inOrder(steps ...func() error) error {
	for i, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

// identity makes the files a server makes before its engines.
func (b *builder) identity() error {
	text := fmt.Sprintf(`{"format": 1, "store_id": %q, "created": "2026-01-02T03:04:05Z", "domain": %d, "domain_key": %q}`,
		hex.EncodeToString(storeID[:]), domain, hex.EncodeToString(domainKey[:]))
	for name, data := range map[string]string{
		dataDir + "/strongroom.json": text, tierDir + "/strongroom.json": text,
		tierDir + "/TIER": "strongroom tier 1\nstore " + hex.EncodeToString(storeID[:]) + "\n",
	} {
		if err := errors.Join(b.fs.MkdirAll(path.Dir(name), 0o700), write(b.fs, name, []byte(data))); err != nil {
			return err
		}
	}
	return b.fs.MkdirAll(packsDir, 0o700)
}

func (b *builder) open() (err error) {
	b.e, err = start(b.fs, &notices{})
	return err
}

// moment remembers every file as it is.
func (b *builder) moment() error {
	files, err := tree(b.fs)
	b.moments = append(b.moments, files)
	return err
}

func (b *builder) reopen() error {
	return inOrder(b.moment, b.e.stop, b.open, b.moment)
}

// tornPack kills the process in the middle of an append to a pack.
func (b *builder) tornPack() error {
	b.fs = b.fs.Kill()
	_ = b.e.stop() // of the other file system
	files, err := tree(b.fs)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if data := files[name]; strings.HasSuffix(name, ".pack") && !sealed(data) && len(data) > packHeader {
			if err := write(b.fs, name, append(data, newBlock(b.rng, 0)[:5000]...)); err != nil {
				return err
			}
		}
	}
	return b.open()
}

// failedSync makes the sync of a pack fail, so that it gets a note. The backup
// that wanted it is given up.
func (b *builder) failedSync() error {
	if err := b.session("alpha", "auto", false)(); err != nil {
		return err
	}
	s := b.sessions[len(b.sessions)-1]
	b.sessions = b.sessions[:len(b.sessions)-1]
	if err := b.put(s.disks[0], newBlock(b.rng, 0), 2*dedup.BlockSize); err != nil { // that no pack has yet
		return err
	}
	fault := &crashfs.Fault{Sticky: true, Effect: crashfs.DropDirty, Err: syscall.EIO, Match: func(op crashfs.Op) bool {
		return op.Kind == crashfs.Sync && strings.HasSuffix(op.Path, ".pack")
	}}
	b.fs.Inject(fault)
	_, err := b.e.Commit(s.id)
	b.fs.Heal()
	if err == nil || b.fs.Fired(fault) == 0 {
		return errors.New("the sync of a pack did not fail")
	}
	return b.e.Abort(s.id)
}

func (b *builder) remove(vm string, i int) func() error {
	return func() error {
		j := slices.IndexFunc(b.points, func(p *point) bool { return p.vm == vm })
		p := b.points[j+i]
		b.points = slices.Delete(b.points, j+i, j+i+1)
		return b.e.cat.Remove(p.id)
	}
}

func (b *builder) find(vm string, i int) *point {
	for _, p := range b.points {
		if p.vm == vm {
			if i--; i < 0 {
				return p
			}
		}
	}
	return nil
}

// protect gives points everything a point can have beside its content.
func (b *builder) protect() error {
	trashed := b.find("gamma", 0)
	trashed.trashed = true
	n := 31
	return errors.Join(
		b.e.Trash(trashed.id, now().Add(1000*time.Hour)),
		b.e.cat.Hold(b.find("gamma", 1).id, "for the court"),
		b.e.cat.Lock(b.find("gamma", 1).id, now().Add(1000*time.Hour)),
		b.e.cat.SetPolicy("alpha", catalog.Policy{FullAfter: &n}))
}

// merge takes an image out beneath the one that follows it.
func (b *builder) merge() error {
	for _, p := range b.points {
		got, err := b.e.cat.Point(p.id)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(got.Images, func(im catalog.Image) bool { return im.Disk == "vdb" && im.Parent != "" })
		if i < 0 {
			continue
		}
		parent := b.points[slices.IndexFunc(b.points, func(q *point) bool { return q.id == got.Images[i].Parent })]
		delete(parent.images, "vdb")
		_, err = b.e.Merge(catalog.MergeRequest{VM: p.vm, Disk: "vdb", From: parent.id, Into: p.id}, func() ([]string, error) { return nil, nil })
		return err
	}
	return errors.New("nothing to merge")
}

// collect leaves packs of a second generation.
func (b *builder) collect() error {
	m, err := maintenance.New(maintenance.Options{Blocks: b.e.store, Catalog: b.e.cat, Volumes: b.e.Manager, Clock: now})
	if err != nil {
		return err
	}
	if _, err := m.Collect(context.Background(), maintenance.CollectOptions{DeadRatio: 0.01}); err != nil {
		return err
	}
	files, err := tree(b.fs)
	for name := range files {
		if strings.HasSuffix(name, ".g1.pack") {
			return err
		}
	}
	return errors.Join(err, errors.New("no pack was compacted"))
}

// session starts a backup and writes to it: blocks new and known, parts of
// blocks, zeros. With flush, part of it is flushed.
func (b *builder) session(vm, mode string, flush bool) func() error {
	return func() error {
		specs := []volume.DiskSpec{{Name: "vda", Size: bigDisk}, {Name: "vdb", Size: smallDisk}}
		s, err := b.begin(vm, mode, specs)
		if err != nil {
			return err
		}
		for i, d := range s.disks {
			if err := b.fill(d); err != nil {
				return err
			}
			if flush && i == 0 {
				err = b.on(d, func(x *volume.Disk) error { return x.Flush() })
			}
			if err == nil && i == 0 {
				err = b.part(d)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
}

func (b *builder) begin(vm, mode string, specs []volume.DiskSpec) (*session, error) {
	s := &session{vm: vm, blob: fmt.Sprintf("<domain>%s %x</domain>", vm, b.rng.Uint64())}
	files := len(b.sessions)%2 == 0 // what those store is compressed later
	st, err := b.e.Start(volume.StartRequest{VM: vm, Mode: mode, Disks: specs, TTL: time.Hour, Files: files, Labels: map[string]string{"by": "bitrot"},
		Blobs: []catalog.Blob{{Name: "domain.xml", Data: []byte(s.blob)}}})
	if err != nil {
		return nil, err
	}
	s.id = st.Session
	for _, ds := range st.Disks {
		under := content{}
		if i := slices.IndexFunc(b.points, func(p *point) bool { return p.id == ds.Parent }); i >= 0 {
			under = b.points[i].images[ds.Disk]
		}
		s.disks = append(s.disks, &disk{name: ds.Disk, token: ds.Token, want: under.resized(ds.Size)})
	}
	b.sessions = append(b.sessions, s)
	return s, nil
}

func (b *builder) on(d *disk, do func(*volume.Disk) error) error {
	x, err := b.e.OpenExport(d.token)
	if err != nil {
		return err
	}
	defer x.Close()
	return do(x)
}

func (b *builder) put(d *disk, p []byte, off int64) error {
	p = p[:min(int64(len(p)), d.want.size-off)]
	d.want = d.want.written(p, off, int64(len(p)))
	return b.on(d, func(x *volume.Disk) error { _, err := x.WriteAt(slices.Clone(p), off); return err })
}

func (b *builder) zero(d *disk, off, n int64) error {
	n = min(n, d.want.size-off)
	d.want = d.want.written(nil, off, n)
	return b.on(d, func(x *volume.Disk) error { return x.Zero(off, n) })
}

func (b *builder) fill(d *disk) error {
	blocks := d.want.count()
	for range 5 {
		i := b.rng.Int64N(min(blocks, 6))
		if blocks > dedup.ChunkBlocks && b.rng.IntN(2) == 0 {
			i = dedup.ChunkBlocks - 3 + b.rng.Int64N(6)
		}
		var p []byte
		for range 1 + b.rng.IntN(3) {
			if b.rng.IntN(2) == 0 {
				p = append(p, b.pool[b.rng.IntN(len(b.pool))]...)
			} else {
				p = append(p, newBlock(b.rng, b.rng.IntN(3))...)
			}
		}
		if err := b.put(d, p, i*dedup.BlockSize); err != nil {
			return err
		}
	}
	return b.zero(d, b.rng.Int64N(2)*dedup.BlockSize, dedup.BlockSize)
}

// part leaves raw bytes in the journal.
func (b *builder) part(d *disk) error {
	for range 3 {
		if err := b.put(d, newBlock(b.rng, 0)[:1+b.rng.IntN(3000)], b.rng.Int64N(6*dedup.BlockSize-3000)); err != nil {
			return err
		}
	}
	return b.zero(d, 700+b.rng.Int64N(5000), 3000)
}

// wideSession touches more chunks than stay in memory, so that their maps go to
// the journal.
func (b *builder) wideSession() error {
	s, err := b.begin("omega", "full", []volume.DiskSpec{{Name: "vda", Size: wideDisk}})
	if err != nil {
		return err
	}
	d := s.disks[0]
	for i := range int64(wideDisk / dedup.ChunkSize) {
		if err := b.put(d, b.pool[i%8], i*dedup.ChunkSize); err != nil {
			return err
		}
	}
	return b.put(d, b.pool[2], 3*dedup.BlockSize)
}

func (b *builder) backup(vm, mode string) func() error {
	return func() error {
		if err := b.session(vm, mode, false)(); err != nil {
			return err
		}
		s := b.sessions[len(b.sessions)-1]
		b.sessions = b.sessions[:len(b.sessions)-1]
		r, err := b.e.Commit(s.id)
		if err != nil {
			return err
		}
		b.points = append(b.points, s.point(r.Point))
		return nil
	}
}

func (s *session) point(id string) *point {
	p := &point{id: id, vm: s.vm, blob: s.blob, images: map[string]content{}}
	for _, d := range s.disks {
		p.images[d.name] = d.want
	}
	return p
}

// finish makes a world of a file system and looks at it for the first time.
func (b *builder) finish(name string, fs *crashfs.FS) (*world, error) {
	w := &world{name: name, fs: fs, points: b.points, sessions: b.sessions, stale: map[string][]byte{}}
	var err error
	if w.files, err = tree(fs); err != nil {
		return nil, err
	}
	for _, m := range b.moments {
		for name, data := range m {
			if now, ok := w.files[name]; ok && string(now) != string(data) {
				w.stale[name] = data
			}
		}
	}
	n := &notices{}
	e, err := start(fs.Kill(), n)
	if err != nil {
		return nil, err
	}
	if w.dump, err = dump(e); err != nil {
		return nil, err
	}
	w.notices, w.states = n.all(), map[string]volume.Status{}
	for _, st := range e.Sessions() {
		w.states[st.Session] = st
	}
	for _, p := range w.points {
		if p.addrs != nil {
			continue
		}
		if err := p.locate(e); err != nil {
			return nil, err
		}
	}
	return w, e.stop()
}

func dump(e *engine) (string, error) {
	var b strings.Builder
	err := e.cat.Dump(&b)
	return b.String(), err
}

// locate finds where a point's blocks lie.
func (p *point) locate(e *engine) error {
	p.addrs = map[string][]dedup.Addr{}
	for name, c := range p.images {
		list, err := e.cat.ChunkList(p.id, name)
		if err != nil {
			return err
		}
		addrs := make([]dedup.Addr, c.count()+dedup.ChunkBlocks)
		for i, no := range list {
			if no == 0 {
				continue
			}
			chunk, err := e.cat.Chunk(no)
			if err != nil {
				return err
			}
			for _, r := range chunk.Runs {
				for j := range int(r.Count) {
					addrs[i*dedup.ChunkBlocks+int(r.Start)+j] = r.Addr + dedup.Addr(j)
				}
			}
		}
		p.addrs[name] = addrs
	}
	return nil
}

// tree reads every file.
func tree(fs vfs.FS) (map[string][]byte, error) {
	files := map[string][]byte{}
	var visit func(dir string) error
	visit = func(dir string) error {
		names, err := fs.List(dir)
		if err != nil {
			return err
		}
		for _, name := range names {
			name = path.Join(dir, name)
			info, err := fs.Stat(name)
			if err == nil && info.IsDir() {
				err = visit(name)
			} else if err == nil {
				files[name], err = read(fs, name)
			}
			if err != nil && !errors.Is(err, os.ErrNotExist) { // Pebble removes files in the background
				return err
			}
		}
		return nil
	}
	return files, visit(dataDir)
}

func read(fs vfs.FS, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// write replaces a file, synced.
func write(fs vfs.FS, name string, data []byte) error {
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(slices.Clone(data))
	return errors.Join(err, f.Sync(), f.Close())
}
