package volume

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/crashfs"
)

// cloneModel does random things to a clone and knows what it must be.
type cloneModel struct {
	h     *history // for payloads and places
	w     *world
	exact bool // nothing is flushed but by Flush
	id    string
	base  string
	disks []*modelDisk

	stale, whole, rewrites int // power cuts with either end; journals written anew
}

// modelDisk is a disk as it was when it was flushed last, and after each step
// since.
type modelDisk struct {
	name, token string
	disk        *Disk
	states      []*memDisk
}

func (d *modelDisk) now() *memDisk { return d.states[len(d.states)-1] }

func newCloneModel(t *testing.T, seed, stream uint64, exact bool) *cloneModel {
	w := newWorld(t)
	w.stop()
	w.packSize, w.small = dedup.MinPackSize, !exact
	w.start()
	m := &cloneModel{h: &history{t: t, rng: rand.New(rand.NewPCG(seed, stream)), w: w}, w: w, exact: exact}
	st, err := w.m.Start(StartRequest{VM: "vm", Mode: "full", Disks: []DiskSpec{{"vda", 3*dedup.ChunkSize + 12345}, {"vdb", 9*dedup.ChunkSize + 512}}})
	w.must(err)
	contents := map[string]*memDisk{}
	for _, ds := range st.Disks {
		d, want := w.export(ds.Token), newMemDisk(ds.Size)
		for range 6 {
			off, n := m.h.place(ds.Size, 1<<20)
			p := m.h.payload(int(n))
			_, err := d.WriteAt(p, off)
			w.must(err)
			want.write(p, off)
		}
		contents[ds.Disk] = want
	}
	m.create(w.commit(st.Session).Point, contents)
	return m
}

// create clones a point and forgets about the clone before.
func (m *cloneModel) create(point string, contents map[string]*memDisk) {
	st, err := m.w.m.CreateClone(CloneRequest{Ref: point})
	m.w.must(err)
	m.id, m.base, m.disks = st.Session, point, nil
	for _, ds := range st.Disks {
		m.disks = append(m.disks, &modelDisk{name: ds.Disk, token: ds.Token, disk: m.w.export(ds.Token), states: []*memDisk{contents[ds.Disk]}})
	}
}

func (m *cloneModel) step() {
	h, w := m.h, m.w
	d := m.disks[h.rng.IntN(len(m.disks))]
	switch op := h.rng.IntN(100); {
	case op < 45:
		largest := []int64{512, 4096, 4096, 100_000, 1 << 20}[h.rng.IntN(5)]
		off, n := h.place(d.now().size, largest)
		p := h.payload(int(n))
		_, err := d.disk.WriteAt(p, off)
		w.must(err)
		m.then(d, func(x *memDisk) { x.write(p, off) })
	case op < 55:
		off, n := h.place(d.now().size, 100<<20)
		w.must(d.disk.Zero(off, n))
		m.then(d, func(x *memDisk) { h.zero(x, off, n) })
	case op < 63:
		off, n := h.place(d.now().size, 1<<20)
		w.must(d.now().same(d.disk, off, n))
	case op < 71:
		w.must(d.disk.Flush())
		m.flushed()
	case op < 79:
		w.collect()
	case op < 83:
		m.restart(func() { w.stop(); w.boot += "+"; w.start() })
		m.flushed()
	case op < 90:
		m.restart(func() { w.kill(); w.start() })
	case op < 97:
		m.powerCut()
	case op < 98:
		m.seal()
	default:
		for _, d := range m.disks {
			w.must(d.now().equal(d.disk))
		}
	}
}

// then notes what a step made of a disk.
func (m *cloneModel) then(d *modelDisk, f func(*memDisk)) {
	next := d.now().fork(d.now().size)
	f(next)
	d.states = append(d.states, next)
}

func (m *cloneModel) flushed() {
	for _, d := range m.disks {
		d.states = []*memDisk{d.now()}
	}
}

// restart finds the clone as it was.
func (m *cloneModel) restart(how func()) {
	m.rewrites += int(m.w.m.Stats().Rewrites)
	how()
	m.reopen()
	for _, d := range m.disks {
		if err := d.now().equal(d.disk); err != nil {
			m.h.t.Fatalf("disk %s after a restart: %v", d.name, err)
		}
	}
}

func (m *cloneModel) reopen() {
	for _, d := range m.disks {
		d.disk = m.w.export(d.token)
	}
}

// powerCut finds the clone as it was, or stale. Then it is resumed as it was when
// it was flushed last, or later.
func (m *cloneModel) powerCut() {
	t, w := m.h.t, m.w
	t.Helper()
	m.rewrites += int(w.m.Stats().Rewrites)
	unflushed := false
	for _, d := range m.disks {
		unflushed = unflushed || len(d.states) > 1
	}
	w.powerCut(crashfs.Profiles()[m.h.rng.IntN(len(crashfs.Profiles()))], m.h.rng.Uint64())
	st, err := w.m.Status(m.id)
	w.must(err)
	switch {
	case st.State == Open && (!m.exact || !unflushed):
		m.whole++
		m.flushed()
		m.reopen()
		for _, d := range m.disks {
			if err := d.now().equal(d.disk); err != nil {
				t.Fatalf("disk %s of a clone that is not stale: %v", d.name, err)
			}
		}
		return
	case st.State != Stale || !unflushed:
		t.Fatalf("all was flushed is %v, and the clone is %s: %s", !unflushed, st.State, st.Reason)
	}
	m.stale++
	if m.h.rng.IntN(2) == 0 {
		w.collect()
	}
	if m.h.rng.IntN(3) == 0 {
		w.kill()
		w.start()
	}
	st, err = w.m.ResumeClone(m.id)
	w.must(err)
	for i, d := range m.disks {
		if _, err := w.m.OpenExport(d.token); !errors.Is(err, ErrStale) {
			t.Fatalf("the token of before: %v", err)
		}
		d.token = st.Disks[i].Token
	}
	m.reopen()
	for _, d := range m.disks {
		m.find(d)
	}
}

// find says which of its states a resumed disk is in.
func (m *cloneModel) find(d *modelDisk) {
	m.h.t.Helper()
	var why error
	for i, x := range d.states {
		if why = x.equal(d.disk); why == nil {
			d.states = []*memDisk{x}
			return
		}
		if i == 0 && m.exact {
			m.h.t.Fatalf("disk %s is not as it was when it was flushed last: %v", d.name, why)
		}
	}
	m.h.t.Fatalf("disk %s is in none of the %d states since it was flushed last: %v", d.name, len(d.states), why)
}

// seal makes a point of the clone, and a clone of that.
func (m *cloneModel) seal() {
	t, w := m.h.t, m.w
	r, err := w.m.SealClone(m.id)
	w.must(err)
	contents := map[string]*memDisk{}
	for _, d := range m.disks {
		im, err := w.m.OpenImage(r.Point, d.name)
		w.must(err)
		if err := d.now().equal(im); err != nil {
			t.Fatalf("disk %s of the sealed point: %v", d.name, err)
		}
		w.must(im.Close())
		contents[d.name] = d.now()
	}
	old := m.base
	m.create(r.Point, contents)
	w.must(w.m.Remove(old))
}

func TestCloneHistories(t *testing.T) {
	seed := seedOf(t)
	stale, whole, rewrites := 0, 0, 0
	for i := range uint64(4) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Logf("replay with STRONGROOM_SEED=%d", seed)
			m := newCloneModel(t, seed, i, i%2 == 0)
			for range 120 {
				m.step()
			}
			stale, whole, rewrites = stale+m.stale, whole+m.whole, rewrites+m.rewrites
		})
	}
	t.Logf("%d power cuts made a clone stale, %d did not; %d journals were written anew", stale, whole, rewrites)
	if !t.Failed() && (stale == 0 || whole == 0 || rewrites == 0) {
		t.Error("not all happened that should")
	}
}

// TestCloneConcurrently writes from several sides while everything else goes on:
// journals are written anew, garbage is collected, somebody flushes.
func TestCloneConcurrently(t *testing.T) {
	const (
		writers = 4
		region  = 2 << 20
	)
	seed := seedOf(t)
	t.Logf("replay with STRONGROOM_SEED=%d", seed)
	w := newWorld(t)
	w.stop()
	w.packSize, w.small = dedup.MinPackSize, true
	w.start()
	w.point(writers*region, 1)
	st, d := w.clone(CloneRequest{Ref: "vm"})
	want := w.content(d)
	stop := make(chan struct{})
	var others, all sync.WaitGroup
	for _, f := range []func(){func() { _ = d.Flush() }, func() { w.collect() }} {
		others.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					f()
				}
			}
		})
	}
	for i := range writers {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			mine := want[i*region : (i+1)*region]
			got := make([]byte, 100_000)
			for range 400 {
				off := rng.IntN(region)
				n := 1 + rng.IntN(min(region-off, []int{512, 4096, len(got)}[rng.IntN(3)]))
				p := make([]byte, n)
				if rng.IntN(6) > 0 {
					fill(p, rng.Uint64())
				}
				if _, err := d.WriteAt(p, int64(i*region+off)); err != nil {
					t.Error(err)
					return
				}
				copy(mine[off:], p)
				off = rng.IntN(region - len(got))
				if _, err := d.ReadAt(got, int64(i*region+off)); err != nil || string(got) != string(mine[off:off+len(got)]) {
					t.Errorf("writer %d reads other bytes at %d: %v", i, off, err)
					return
				}
			}
		})
	}
	all.Wait()
	close(stop)
	others.Wait()
	if t.Failed() {
		return
	}
	n := w.m.Stats().Rewrites
	w.kill()
	w.start()
	if d = w.export(st.Disks[0].Token); string(w.content(d)) != string(want) {
		t.Error("after a restart it is not what it was")
	}
	r, err := w.m.SealClone(st.Session)
	w.must(err)
	if string(w.imageContent(r.Point, "vda")) != string(want) {
		t.Error("the point is not what the clone was")
	}
	t.Logf("%d journals were written anew", n)
	if n == 0 {
		t.Error("no journal was written anew")
	}
}
