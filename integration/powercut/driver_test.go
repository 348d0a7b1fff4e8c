package powercut

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/volume"
)

// driver makes backups and keeps the model up to date. Every method tells the
// model before the call what may happen and after it what did; an error leaves
// the model unsure.
type driver struct {
	e    *engine
	m    *model
	rng  *rand.Rand
	vm   string
	made int // sessions so far, for keys
	name string
}

// Sizes of the disks: one of two chunks, the last block of each cut short.
const (
	bigDisk   = dedup.ChunkSize + 3*dedup.BlockSize + 7*512
	smallDisk = 4*dedup.BlockSize + 1000
)

// step does one thing that makes sense now.
func (d *driver) step() error {
	s := d.openSession()
	if s == nil {
		return d.start()
	}
	switch n := d.rng.IntN(20); {
	case n < 8:
		return d.writeBlocks(s, d.anyDisk(s))
	case n < 11:
		return d.writePart(s, d.anyDisk(s))
	case n < 13:
		return d.zero(s, d.anyDisk(s))
	case n < 15:
		return d.flush(s)
	case n < 16:
		return d.read(s)
	case n < 17:
		return d.liveOn()
	case n < 18 && d.rng.IntN(3) == 0:
		return d.abort(s)
	case n < 20 && d.rng.IntN(2) == 0:
		return d.commit(s)
	}
	return d.writeBlocks(s, d.anyDisk(s))
}

// openSession is the VM's open session, if there is one.
func (d *driver) openSession() (found *session) {
	d.m.set(func() {
		for _, s := range d.m.sessions {
			if s.vm == d.vm && s.phase == open {
				found = s
			}
		}
	})
	return found
}

func (d *driver) anyDisk(s *session) *disk { return s.disks[d.rng.IntN(len(s.disks))] }

func (d *driver) start() error {
	d.made++
	s := &session{key: fmt.Sprintf("%s-%s-%d", d.vm, d.name, d.made), vm: d.vm, phase: starting}
	size := int64(smallDisk)
	d.m.set(func() {
		if im, ok := d.m.latest(d.vm, "vdb"); ok {
			size = im.size
		}
		d.m.sessions = append(d.m.sessions, s)
	})
	r := volume.StartRequest{VM: d.vm, Mode: []string{"full", "auto", "auto"}[d.rng.IntN(3)], TTL: time.Hour, Files: d.rng.IntN(3) == 0,
		Disks:  []volume.DiskSpec{{Name: "vda", Size: bigDisk}, {Name: "vdb", Size: grown(size, d.rng)}},
		Labels: map[string]string{"key": s.key},
		Blobs:  []catalog.Blob{{Name: "domain.xml", Data: blobOf(s.key)}}}
	if d.rng.IntN(2) == 0 {
		r.Disks = r.Disks[1:]
	}
	return d.begin(s, r)
}

func (d *driver) begin(s *session, r volume.StartRequest) error {
	st, err := d.e.Start(r)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	d.m.set(func() { err = d.m.began(s, st) })
	return err
}

// startAs begins a backup of all disks, as they are in sizes.
func (d *driver) startAs(mode string, sizes map[string]int64) error {
	d.made++
	s := &session{key: fmt.Sprintf("%s-%s-%d", d.vm, d.name, d.made), vm: d.vm, phase: starting}
	d.m.set(func() { d.m.sessions = append(d.m.sessions, s) })
	r := volume.StartRequest{VM: d.vm, Mode: mode, TTL: time.Hour, Files: d.rng.IntN(2) == 0, Labels: map[string]string{"key": s.key},
		Blobs: []catalog.Blob{{Name: "domain.xml", Data: blobOf(s.key)}}}
	for _, name := range slices.Sorted(maps.Keys(sizes)) {
		r.Disks = append(r.Disks, volume.DiskSpec{Name: name, Size: sizes[name]})
	}
	return d.begin(s, r)
}

// grown is the size or a little more, within reason.
func grown(size int64, rng *rand.Rand) int64 {
	if size < 2*smallDisk && rng.IntN(3) == 0 {
		return size + 70000
	}
	return size
}

func blobOf(key string) []byte { return []byte("<domain>" + key + "</domain>") }

// began fills in what the answer to a start says. The lock is held.
func (m *model) began(s *session, st volume.Status) error {
	s.id, s.phase, s.clean = st.Session, open, true
	for _, ds := range st.Disks {
		var under content
		if ds.Parent != "" {
			p := m.find(ds.Parent)
			if p == nil || p.trashed {
				return fmt.Errorf("session %s has the unknown parent %s", s.key, ds.Parent)
			}
			under = p.images[ds.Disk]
		}
		s.disks = append(s.disks, &disk{name: ds.Disk, token: ds.Token, want: under.resized(ds.Size)})
	}
	return nil
}

// change performs a write or zero and keeps the model right about it.
func (d *driver) change(s *session, k *disk, p []byte, off, n int64, do func(*volume.Disk) error) error {
	before := k.want
	d.m.set(func() { s.clean, k.want = false, before.unsure(p, off, n) })
	x, err := d.e.OpenExport(k.token)
	if err == nil {
		err = do(x)
		x.Close()
	}
	if err != nil {
		d.m.set(func() { s.doomed = true })
		return fmt.Errorf("change %d+%d of %s/%s: %w", off, n, d.vm, k.name, err)
	}
	d.m.set(func() { k.want = before.written(p, off, n) })
	return nil
}

func (d *driver) write(s *session, k *disk, p []byte, off int64) error {
	return d.change(s, k, p, off, int64(len(p)), func(x *volume.Disk) error {
		_, err := x.WriteAt(slices.Clone(p), off)
		return err
	})
}

// place is a block near one of the disk's edges.
func (d *driver) place(k *disk) int64 {
	blocks := (k.want.size + dedup.BlockSize - 1) / dedup.BlockSize
	if blocks < dedup.ChunkBlocks {
		return d.rng.Int64N(blocks)
	}
	if d.rng.IntN(2) == 0 {
		return d.rng.Int64N(6)
	}
	return dedup.ChunkBlocks - 3 + d.rng.Int64N(blocks-dedup.ChunkBlocks+3)
}

func (d *driver) writeBlocks(s *session, k *disk) error {
	off := d.place(k) * dedup.BlockSize
	var p []byte
	for range 1 + d.rng.IntN(6) {
		p = append(p, d.anyBlock()...)
	}
	return d.write(s, k, p[:min(int64(len(p)), k.want.size-off)], off)
}

func (d *driver) writePart(s *session, k *disk) error {
	off := d.place(k)*dedup.BlockSize + d.rng.Int64N(dedup.BlockSize)
	if off >= k.want.size {
		off = k.want.size - 1
	}
	n := min(1+d.rng.Int64N(3*dedup.BlockSize/2), k.want.size-off)
	if d.rng.IntN(2) == 0 {
		n = min(n, 512)
	}
	p := append(slices.Clone(d.anyBlock()), d.anyBlock()...)
	return d.write(s, k, p[:n], off)
}

func (d *driver) zero(s *session, k *disk) error {
	off, n := d.place(k)*dedup.BlockSize, int64(2*dedup.BlockSize)
	switch d.rng.IntN(4) {
	case 0:
		off, n = 0, k.want.size
	case 1:
		off += 700
	}
	off = min(off, k.want.size-1)
	n = min(n, k.want.size-off)
	return d.change(s, k, nil, off, n, func(x *volume.Disk) error { return x.Zero(off, n) })
}

func (d *driver) flush(s *session) error {
	x, err := d.e.OpenExport(s.disks[0].token)
	if err == nil {
		err = x.Flush()
	}
	if err != nil {
		d.m.set(func() { s.doomed = true })
		return fmt.Errorf("flush: %w", err)
	}
	d.m.set(func() { s.clean = true })
	return nil
}

func (d *driver) read(s *session) error {
	for _, k := range s.disks {
		x, err := d.e.OpenExport(k.token)
		if err != nil {
			return err
		}
		if err := k.want.check(x); err != nil {
			return fmt.Errorf("session %s, disk %s: %w", s.key, k.name, err)
		}
	}
	return nil
}

func (d *driver) commit(s *session) error {
	d.m.set(func() { s.phase, s.clean = committing, false })
	d.m.propose(d.vm, append(slices.Clone(d.m.points[d.vm]), s.pointOf("")))
	err := d.importFile(s)
	var r volume.Receipt
	if err == nil {
		r, err = d.e.Commit(s.id)
	}
	if err != nil {
		d.m.set(func() { s.doomed = true })
		return fmt.Errorf("commit: %w", err)
	}
	d.m.set(func() {
		s.phase, s.point = committed, r.Point
		d.m.became(d.vm, append(slices.Clone(d.m.points[d.vm]), s.pointOf(r.Point)))
	})
	return nil
}

func (d *driver) abort(s *session) error {
	d.m.set(func() { s.phase, s.clean = aborting, false })
	if err := d.e.Abort(s.id); err != nil {
		d.m.set(func() { s.doomed = true })
		return fmt.Errorf("abort: %w", err)
	}
	d.m.set(func() { s.phase = aborted })
	return nil
}

// pool is data that every VM writes again and again, so that blocks are found
// in packs of other sessions.
var pool = sync.OnceValue(func() (list [][]byte) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 24 {
		list = append(list, newBlock(rng, i%3))
	}
	return append(list, make([]byte, dedup.BlockSize))
})

// newBlock is random data, or of which half or all can be compressed.
func newBlock(rng *rand.Rand, kind int) []byte {
	b := make([]byte, dedup.BlockSize)
	v := byte(1 + rng.IntN(200))
	for i := range b {
		switch {
		case kind == 0, kind == 1 && i < len(b)/2:
			b[i] = byte(rng.Uint32())
		default:
			b[i] = v
		}
	}
	b[0], b[1], b[2], b[3] = byte(rng.Uint32()), byte(rng.Uint32()), byte(rng.Uint32()), byte(rng.Uint32())
	return b
}

func (d *driver) anyBlock() []byte {
	if d.rng.IntN(3) == 0 {
		return newBlock(d.rng, d.rng.IntN(3))
	}
	return pool()[d.rng.IntN(len(pool()))]
}
