package maintenance

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/volume"
)

// text makes n bytes that depend on seed and compress.
func text(n int, seed uint64) []byte {
	return bytes.Repeat(noise(500, seed), n/500+1)[:n]
}

// mixed makes n bytes by turns of text and noise, differing in every block.
func mixed(n int, seed uint64) (p []byte) {
	for i := uint64(0); len(p) < n; i++ {
		make := text
		if i%3 == 0 {
			make = noise
		}
		p = append(p, make(block, seed<<20+i)...)
	}
	return p
}

// later makes a point whose data was not compressed.
func (w *world) later(vm string, size int64, puts ...put) string {
	w.t.Helper()
	p := w.backup(volume.StartRequest{VM: vm, Files: true}, size, puts...)
	w.sealed()
	return p.ID
}

// sealed waits for the full packs that are being sealed.
func (w *world) sealed() {
	for w.store.Stats().SealingPacks > 0 {
		time.Sleep(time.Millisecond)
	}
}

// TestCompress: a run compresses what waits, the open packs included, is seen as
// a job and counted, and the accounts follow.
func TestCompress(t *testing.T) {
	var kinds []string
	w := newWorld(t, Config{})
	w.events = Events{Began: func(j Job) { kinds = append(kinds, string(j.Kind)) }}
	w.reopen()
	const size = 8 << 20
	data := mixed(size, 1)
	id := w.later("vm", size, put{0, data})
	before := w.store.Stats()
	if before.LaterBytes < size {
		t.Fatalf("%d bytes wait", before.LaterBytes)
	}
	was, err := w.cat.StoreUsage()
	w.must(err)
	res, err := w.e.Compress(t.Context(), CompressOptions{})
	w.must(err)
	st := w.store.Stats()
	if res.Packs == 0 || res.Skipped != 0 || res.Frames == 0 || res.After > res.Before/2+size/10 || st.LaterBytes != 0 || st.Compressions != uint64(res.Packs) {
		t.Errorf("%+v, %d bytes wait", res, st.LaterBytes)
	}
	if st.PackBytes > before.PackBytes-(res.Before-res.After)+(64<<10) {
		t.Errorf("packs took %d bytes and take %d: %+v", before.PackBytes, st.PackBytes, res)
	}
	u, err := w.cat.StoreUsage()
	w.must(err)
	if u.Stored >= was.Stored || u.Stored > st.PackBytes || u.Stored < st.PackBytes*9/10 {
		t.Errorf("the points took %d bytes and take %d, packs %d", was.Stored, u.Stored, st.PackBytes)
	}
	w.must(w.sameImage(id, data))
	job := w.e.Jobs()[0]
	if job.Kind != Compress || job.Trigger != OnRequest || job.Done != job.Total || job.Total == 0 || job.Compress == nil || *job.Compress != res || !slices.Equal(kinds, []string{"compress"}) {
		t.Errorf("%+v, %v", job, kinds)
	}
	if s := w.e.Stats().Compress; s.Runs != 1 || s.Failures != 0 || s.Packs != uint64(res.Packs) || s.Before != res.Before || s.After != res.After || s.Running {
		t.Errorf("%+v", s)
	}
	again, err := w.e.Compress(t.Context(), CompressOptions{})
	if err != nil || again.Packs != 0 || again.Frames != 0 {
		t.Errorf("again: %+v, %v", again, err)
	}
	if c := w.collect(all); c.Tally.DeadSlots != 0 || c.Audit.Unmarked+c.Audit.Uncounted != 0 {
		t.Errorf("%+v", c)
	}
	w.must(w.sameImage(id, data))
	if _, err := w.e.Compress(t.Context(), CompressOptions{Rate: -1}); !errors.Is(err, ErrBadRequest) {
		t.Errorf("a rate below 0: %v", err)
	}
}

// TestCompressDue: compressing begins when clients rest, or when much waits, and
// not while garbage is collected.
func TestCompressDue(t *testing.T) {
	w := newWorld(t, Config{Compress: CompressConfig{Idle: time.Minute, At: 6 << 20}})
	due := func() uint64 {
		t.Helper()
		w.must(w.e.CompressDue(t.Context()))
		return w.e.Stats().Compress.Runs
	}
	if due() != 0 {
		t.Error("nothing was compressed")
	}
	const size = 2 << 20
	a := w.later("a", size, put{0, mixed(size, 1)})
	if due() != 0 {
		t.Error("it began at once")
	}
	w.pass(time.Minute)
	b := w.later("b", size, put{0, mixed(size, 2)})
	if due() != 0 {
		t.Error("it began while clients were storing data")
	}
	w.pass(time.Minute)
	_, r, err := w.e.begin(t.Context(), GC, OnRequest, "bytes")
	w.must(err)
	if due() != 0 {
		t.Error("it began while garbage is being collected")
	}
	r.end(nil)
	if due() != 1 || w.store.Stats().LaterBytes != 0 {
		t.Errorf("it did not begin when clients rested: %d bytes wait", w.store.Stats().LaterBytes)
	}
	for _, job := range w.e.Jobs() {
		if job.Kind == Compress && job.Trigger != OnThreshold {
			t.Errorf("%+v", job)
		}
	}
	if due() != 1 {
		t.Error("it began again")
	}
	// Much waits, in sealed packs: it does not wait for the clients to rest.
	st, d, err := w.begin(volume.StartRequest{VM: "c", Files: true}, 16<<20)
	w.must(err)
	data := mixed(16<<20, 3)
	_, err = d.WriteAt(data, 0)
	w.must(err)
	w.must(d.Flush())
	w.sealed()
	if due() != 2 || w.e.Stats().Compress.Packs < 10 {
		t.Errorf("much waits: %+v, %d bytes", w.e.Stats().Compress, w.store.Stats().LaterBytes)
	}
	w.must(sameAs(d, data))
	rec, err := w.vols.Commit(st.Session)
	w.must(err)
	w.reopen()
	for id, want := range map[string][]byte{a: mixed(size, 1), b: mixed(size, 2), rec.Point: data} {
		w.must(w.sameImage(id, want))
	}
	w.collect(all)
	w.must(w.sameImage(rec.Point, data))
}

// TestCompressLeavesDamage: packs with damage are left for the repair that
// follows the next backup, by which they are compressed too, and nothing is tried
// over and over.
func TestCompressLeavesDamage(t *testing.T) {
	w := newWorld(t, Config{Compress: CompressConfig{Idle: time.Second}})
	const size = 4 << 20
	data := mixed(size, 1)
	id := w.later("vm", size, put{0, data})
	_, err := w.store.SealLater(true)
	w.must(err)
	w.stop()
	w.rot(1)
	w.start()
	res, err := w.e.Compress(t.Context(), CompressOptions{})
	w.must(err)
	if res.Skipped != 1 || res.Packs == 0 {
		t.Errorf("%+v", res)
	}
	left := w.store.Stats().LaterBytes
	if left == 0 || len(w.store.LaterPacks()) != 0 {
		t.Errorf("%d bytes wait, in %v", left, w.store.LaterPacks())
	}
	w.pass(time.Hour)
	for range 3 {
		w.must(w.e.CompressDue(t.Context()))
		w.pass(time.Minute)
	}
	if runs := w.e.Stats().Compress.Runs; runs != 1 {
		t.Errorf("%d runs", runs)
	}
	w.must(w.e.HealDue(t.Context()))
	if list := w.e.Affected(); len(list) != 1 || list[0].Point != id {
		t.Errorf("affected: %+v", list)
	}
	again := w.later("vm", size, put{0, data})
	w.must(w.e.HealDue(t.Context()))
	w.must(w.sameImage(id, data))
	w.must(w.sameImage(again, data))
	if _, err := w.e.Compress(t.Context(), CompressOptions{}); err != nil || w.store.Stats().LaterBytes != 0 {
		t.Errorf("%d bytes wait, %v", w.store.Stats().LaterBytes, err)
	}
	v, err := w.e.Verify(t.Context(), VerifyRequest{})
	if err != nil || v.DamagedBlocks != 0 {
		t.Errorf("%+v, %v", v, err)
	}
	w.must(w.sameImage(id, data))
}

// TestCompressCancelled: a run that is cancelled leaves everything whole, and
// the next goes on.
func TestCompressCancelled(t *testing.T) {
	w := newWorld(t, Config{})
	const size = 4 << 20
	data := mixed(size, 1)
	id := w.later("vm", size, put{0, data})
	_, err := w.store.SealLater(true)
	w.must(err)
	ctx, cancel := context.WithCancel(t.Context())
	w.io.onWrite(func(path string) {
		if strings.Contains(path, "000000003.g1.pack") {
			cancel()
		}
	})
	res, err := w.e.Compress(ctx, CompressOptions{})
	if !errors.Is(err, context.Canceled) || res.Packs < 2 {
		t.Errorf("%+v, %v", res, err)
	}
	if s := w.e.Stats().Compress; s.Cancelled != 1 || s.Failures != 0 {
		t.Errorf("%+v", s)
	}
	w.must(w.sameImage(id, data))
	if _, err := w.e.Compress(t.Context(), CompressOptions{}); err != nil || w.store.Stats().LaterBytes != 0 {
		t.Errorf("%d bytes wait, %v", w.store.Stats().LaterBytes, err)
	}
	w.must(w.sameImage(id, data))
	var gens []uint32
	w.must(w.store.Packs(func(p dedup.PackInfo) bool { gens = append(gens, p.ID.Gen); return true }))
	for _, gen := range gens {
		if gen != 1 {
			t.Errorf("generations %v", gens)
			break
		}
	}
}

// TestCompressWhileReading: the old file of a pack somebody reads goes when he
// has read it.
func TestCompressWhileReading(t *testing.T) {
	w := newWorld(t, Config{})
	const size = 1 << 20
	data := mixed(size, 1)
	id := w.later("vm", size, put{0, data})
	_, err := w.store.SealLater(true)
	w.must(err)
	w.must(w.sameImage(id, data)) // now the table of contents is known
	held := newStop("0000000001.g0.pack")
	w.io.onRead(held.hook)
	read := make(chan error)
	go func() { read <- w.sameImage(id, data) }()
	<-held.reached
	if _, err := w.e.Compress(t.Context(), CompressOptions{}); err != nil || w.store.Stats().PendingRemoval != 1 {
		t.Errorf("%d files wait to be removed, %v", w.store.Stats().PendingRemoval, err)
	}
	w.must(w.e.CompressDue(t.Context()))
	if n := w.store.Stats().PendingRemoval; n != 1 {
		t.Errorf("%d files wait to be removed while one is read", n)
	}
	held.release()
	w.must(<-read)
	w.must(w.e.CompressDue(t.Context()))
	if n := w.store.Stats().PendingRemoval; n != 0 {
		t.Errorf("%d files wait to be removed", n)
	}
	w.must(w.sameImage(id, data))
}
