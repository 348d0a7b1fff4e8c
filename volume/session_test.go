package volume

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/crashfs"
)

// begin starts a backup of one disk and opens it.
func (w *world) begin(req StartRequest) (Status, *Disk) {
	w.t.Helper()
	st, err := w.m.Start(req)
	if err != nil {
		w.t.Fatal(err)
	}
	d, err := w.m.OpenExport(st.Disks[0].Token)
	if err != nil {
		w.t.Fatal(err)
	}
	return st, d
}

func (w *world) write(d *Disk, off int64, n int, seed uint64) {
	w.t.Helper()
	p := make([]byte, n)
	fill(p, seed)
	if _, err := d.WriteAt(p, off); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) commit(id string) Receipt {
	w.t.Helper()
	r, err := w.m.Commit(id)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func oneDisk(size int64) []DiskSpec { return []DiskSpec{{"vda", size}} }

// powerCut restarts the world as after a power cut: another boot of the host.
func (w *world) powerCut(p crashfs.Profile, seed uint64) {
	after := w.fs.Crash(rand.New(rand.NewPCG(seed, 0)), p)
	w.stop()
	w.fs, w.boot = after, w.boot+"'"
	w.start()
}

func TestPowerCutAndUnflushedWrites(t *testing.T) {
	const size = 4 << 20
	for name, c := range map[string]struct {
		flush, again bool
		dead         bool
	}{
		"nothing written":           {dead: false},
		"written, not flushed":      {again: true, dead: true},
		"flushed":                   {flush: true},
		"flushed and written again": {flush: true, again: true, dead: true},
	} {
		for _, p := range []crashfs.Profile{crashfs.LoseAll, crashfs.KeepAll, crashfs.Random} {
			t.Run(name+"/"+p.Name, func(t *testing.T) {
				w := newWorld(t)
				st, d := w.begin(StartRequest{VM: "vm", Disks: oneDisk(size)})
				want := newMemDisk(size)
				put := func(off int64, n int, seed uint64) {
					w.write(d, off, n, seed)
					p := make([]byte, n)
					fill(p, seed)
					want.write(p, off)
				}
				if c.flush {
					put(100, 3<<20, 1)
					put(512, 100, 2)
					if err := d.Flush(); err != nil {
						t.Fatal(err)
					}
				}
				if c.again {
					put(65536, 65536, 3)
				}
				w.powerCut(p, 1)
				d, err := w.m.OpenExport(st.Disks[0].Token)
				if c.dead {
					if !errors.Is(err, ErrDead) {
						t.Fatalf("open after the power cut: %v, want ErrDead", err)
					}
					if _, err := w.m.Commit(st.Session); !errors.Is(err, ErrDead) {
						t.Fatalf("commit: %v, want ErrDead", err)
					}
					w.stop()
					w.start()
					if s, _ := w.m.Status(st.Session); s.State != Dead || s.Reason == "" {
						t.Fatalf("after another restart: %+v", s)
					}
					if err := w.m.Abort(st.Session); err != nil {
						t.Fatal(err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if err := want.equal(d); err != nil {
					t.Fatal(err)
				}
				w.commit(st.Session)
			})
		}
	}
}

func TestParentsAndModes(t *testing.T) {
	w := newWorld(t)
	st, d := w.begin(StartRequest{VM: "vm", Disks: oneDisk(1 << 20), Checkpoint: "cp1"})
	w.write(d, 0, 1<<20, 1)
	full := w.commit(st.Session).Point
	w.write2(t, "vm", "cp2")
	latest, err := w.cat.Resolve(mustRef(t, "vm@latest"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		req  StartRequest
		want error  // nil: accepted
		text string // in the error, or the mode
	}{
		{"auto", StartRequest{Disks: oneDisk(1 << 20)}, nil, "incremental"},
		{"auto, grown", StartRequest{Disks: oneDisk(5 << 20)}, nil, "incremental"},
		{"auto, shrunk", StartRequest{Disks: oneDisk(1 << 19)}, nil, "full"},
		{"auto, new disk", StartRequest{Disks: []DiskSpec{{"vdz", 1}}}, nil, "full"},
		{"auto, new disk, parent named", StartRequest{Disks: []DiskSpec{{"vdz", 1}}, Parent: latest.ID}, nil, "full"},
		{"full", StartRequest{Disks: oneDisk(1 << 20), Mode: "full"}, nil, "full"},
		{"incremental", StartRequest{Disks: oneDisk(1 << 20), Mode: "incremental"}, nil, "incremental"},
		{"incremental, shrunk", StartRequest{Disks: oneDisk(1 << 19), Mode: "incremental"}, ErrMismatch, "shrank"},
		{"incremental, new disk", StartRequest{Disks: []DiskSpec{{"vdz", 1}}, Mode: "incremental"}, ErrMismatch, "no image"},
		{"right parent", StartRequest{Disks: oneDisk(1 << 20), Parent: latest.ID}, nil, "incremental"},
		{"right parent by reference", StartRequest{Disks: oneDisk(1 << 20), Parent: "vm@latest"}, nil, "incremental"},
		{"stale parent", StartRequest{Disks: oneDisk(1 << 20), Parent: full}, ErrMismatch, latest.ID},
		{"unknown parent", StartRequest{Disks: oneDisk(1 << 20), Parent: "0000000000000000"}, ErrMismatch, latest.ID},
		{"right checkpoint", StartRequest{Disks: oneDisk(1 << 20), ParentCheckpoint: "cp2"}, nil, "incremental"},
		{"stale checkpoint", StartRequest{Disks: oneDisk(1 << 20), ParentCheckpoint: "cp1"}, ErrMismatch, "cp2"},
		{"parent of a full", StartRequest{Disks: oneDisk(1 << 20), Mode: "full", Parent: latest.ID}, ErrBadRequest, "no parent"},
		{"no disks", StartRequest{}, ErrBadRequest, "disks"},
		{"disk twice", StartRequest{Disks: []DiskSpec{{"a", 1}, {"a", 1}}}, ErrBadRequest, "twice"},
		{"no size", StartRequest{Disks: oneDisk(0)}, ErrBadRequest, "sizes"},
		{"bad name", StartRequest{Disks: []DiskSpec{{"../x", 1}}}, ErrBadRequest, "name"},
		{"bad mode", StartRequest{Disks: oneDisk(1), Mode: "differential"}, ErrBadRequest, "incremental"},
		{"bad ttl", StartRequest{Disks: oneDisk(1), TTL: 1}, ErrBadRequest, "ttl"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.req.VM = "vm"
			before := len(w.m.Sessions())
			st, err := w.m.Start(c.req)
			if c.want != nil {
				if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
					t.Fatalf("got %v, want %v with %q", err, c.want, c.text)
				}
				if len(w.m.Sessions()) != before {
					t.Fatal("a refused backup left a session")
				}
				return
			}
			if err != nil || string(st.Disks[0].Mode) != c.text {
				t.Fatalf("got %+v, %v; want mode %s", st.Disks, err, c.text)
			}
			if err := w.m.Abort(st.Session); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// write2 commits one more point with a checkpoint.
func (w *world) write2(t *testing.T, vm, checkpoint string) {
	t.Helper()
	st, d := w.begin(StartRequest{VM: vm, Disks: oneDisk(1 << 20), Checkpoint: checkpoint})
	w.write(d, 0, 65536, 9)
	w.commit(st.Session)
}

func mustRef(t *testing.T, s string) catalog.Ref {
	t.Helper()
	r, err := catalog.ParseRef(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestExpiry(t *testing.T) {
	w := newWorld(t)
	st, d := w.begin(StartRequest{VM: "vm", Disks: oneDisk(1 << 20), TTL: time.Hour})
	w.write(d, 0, 65536, 1)
	if ids, err := w.m.Expire(st.Started.Add(time.Hour - time.Second)); err != nil || len(ids) != 0 {
		t.Fatalf("too early: %v, %v", ids, err)
	}
	if ids, err := w.m.Expire(st.Expires.Add(time.Second)); err != nil || !slices.Equal(ids, []string{st.Session}) {
		t.Fatalf("expired %v, %v", ids, err)
	}
	if _, err := w.m.OpenExport(st.Disks[0].Token); !errors.Is(err, ErrClosed) {
		t.Fatalf("open: %v, want ErrClosed", err)
	}
	if _, err := d.WriteAt([]byte{1}, 0); !errors.Is(err, ErrClosed) {
		t.Fatalf("write: %v, want ErrClosed", err)
	}
	if s, err := w.m.Status(st.Session); err != nil || s.State != Expired {
		t.Fatalf("%+v, %v", s, err)
	}
	if _, err := w.m.Expire(w.clock.Add(keepClosed + 48*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.m.Status(st.Session); !errors.Is(err, ErrNoSession) {
		t.Fatalf("status long after: %v", err)
	}
	if names, _ := w.fs.List("data/sessions"); len(names) != 0 {
		t.Fatalf("left behind: %v", names)
	}
}

// TestManyChunks touches more chunks than stay in memory, so that maps go to
// the journal and come back, also over a restart.
func TestManyChunks(t *testing.T) {
	const chunks = residentChunks + 50
	w := newWorld(t)
	size := int64(chunks * dedup.ChunkSize)
	st, d := w.begin(StartRequest{VM: "vm", Disks: oneDisk(size)})
	want := newMemDisk(size)
	for round := range 2 {
		for i := range int64(chunks) {
			p := []byte(fmt.Sprintf("round %d chunk %d", round, i))
			off := i*dedup.ChunkSize + int64(round)*dedup.BlockSize + 7
			if _, err := d.WriteAt(p, off); err != nil {
				t.Fatal(err)
			}
			want.write(p, off)
		}
	}
	if n := len(d.d.resident); n > residentChunks {
		t.Fatalf("%d chunk maps in memory, at most %d may be", n, residentChunks)
	}
	if err := want.equal(d); err != nil {
		t.Fatal(err)
	}
	w.kill()
	w.start()
	d, err := w.m.OpenExport(st.Disks[0].Token)
	if err != nil {
		t.Fatal(err)
	}
	if err := want.equal(d); err != nil {
		t.Fatalf("after kill: %v", err)
	}
	im, err := w.m.OpenImage(w.commit(st.Session).Point, "vda")
	if err != nil {
		t.Fatal(err)
	}
	if err := want.equal(im); err != nil {
		t.Fatalf("committed: %v", err)
	}
}

// TestConcurrentClients writes, zeroes, flushes and reads one disk from many
// goroutines, each in a region of its own with edges inside shared blocks.
func TestConcurrentClients(t *testing.T) {
	const clients, region = 8, 3*dedup.BlockSize*4 + 1000
	w := newWorld(t)
	size := int64(clients * region)
	st, d := w.begin(StartRequest{VM: "vm", Disks: oneDisk(size)})
	parts := make([]*memDisk, clients)
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(c), 1))
			want := newMemDisk(region)
			parts[c] = want
			base := int64(c * region)
			for range 60 {
				off := rng.Int64N(region)
				n := 1 + rng.Int64N(region-off)
				switch rng.IntN(5) {
				case 0:
					if err := d.Flush(); err != nil {
						t.Error(err)
					}
				case 1:
					if err := d.Zero(base+off, n); err != nil {
						t.Error(err)
					}
					want.write(make([]byte, n), off)
				case 2:
					got, exp := make([]byte, n), make([]byte, n)
					if _, err := d.ReadAt(got, base+off); err != nil {
						t.Error(err)
					}
					want.read(exp, off)
					if !slices.Equal(got, exp) {
						t.Errorf("client %d reads other bytes than it wrote at %d+%d", c, off, n)
					}
				default:
					p := make([]byte, n)
					fill(p, rng.Uint64()%7)
					if _, err := d.WriteAt(p, base+off); err != nil {
						t.Error(err)
					}
					want.write(p, off)
				}
			}
		})
	}
	wg.Wait()
	whole := newMemDisk(size)
	buf := make([]byte, region)
	for c, p := range parts {
		p.read(buf, 0)
		whole.write(buf, int64(c*region))
	}
	im, err := w.m.OpenImage(w.commit(st.Session).Point, "vda")
	if err != nil {
		t.Fatal(err)
	}
	if err := whole.equal(im); err != nil {
		t.Fatal(err)
	}
}

// TestFailedJournalSync kills the session: its data may be lost, and no later
// sync may claim otherwise.
func TestFailedJournalSync(t *testing.T) {
	w := newWorld(t)
	st, d := w.begin(StartRequest{VM: "vm", Disks: oneDisk(1 << 20)})
	w.write(d, 0, 65536, 1)
	w.fs.Inject(&crashfs.Fault{
		Match:  func(op crashfs.Op) bool { return strings.HasSuffix(op.Path, ".journal") && op.Kind == crashfs.Sync },
		Effect: crashfs.DropDirty,
	})
	if err := d.Flush(); err == nil {
		t.Fatal("flush succeeded over a failed sync")
	}
	if err := d.Flush(); !errors.Is(err, ErrDead) {
		t.Fatalf("second flush: %v, want ErrDead", err)
	}
	if _, err := w.m.Commit(st.Session); !errors.Is(err, ErrDead) {
		t.Fatalf("commit: %v, want ErrDead", err)
	}
	w.stop()
	w.start()
	if _, err := w.m.OpenExport(st.Disks[0].Token); !errors.Is(err, ErrDead) {
		t.Fatalf("after a restart: %v, want ErrDead", err)
	}
}

// TestReportedStateIsDurable: a kill leaves the end of an abort with the kernel
// only; who was told of it must not meet the session again after a power cut.
func TestReportedStateIsDurable(t *testing.T) {
	w := newWorld(t)
	s, err := w.m.Start(StartRequest{VM: "v", Disks: []DiskSpec{{Name: "d", Size: 1 << 20}}})
	if err != nil {
		t.Fatal(err)
	}
	var after *crashfs.FS
	w.fs.Observe(func(at *crashfs.Instant) {
		if at.Op.Kind == crashfs.Rename {
			after = at.Kill()
		}
	})
	if err := w.m.Abort(s.Session); err != nil {
		t.Fatal(err)
	}
	w.stop()
	for _, boot := range []string{"boot-1", "boot-2"} {
		w.fs, w.boot = after, boot
		w.start()
		if got, err := w.m.Status(s.Session); err != nil || got.State != Aborted {
			t.Errorf("%s: the session is %s, %v", boot, got.State, err)
		}
		after = w.fs.Crash(nil, crashfs.LoseAll)
		if boot == "boot-1" {
			w.stop()
		}
	}
}
