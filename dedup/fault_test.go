package dedup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
	"github.com/strongroom-backup/strongroom/tier"
)

// packOp picks operations of the given kinds on pack files.
func packOp(kinds ...crashfs.Kind) func(crashfs.Op) bool {
	is := crashfs.Is(kinds...)
	return func(op crashfs.Op) bool { return is(op) && strings.HasSuffix(op.Path, ".pack") }
}

// trace remembers every operation.
func trace(fs *crashfs.FS) func() []crashfs.Op {
	var mu sync.Mutex
	var ops []crashfs.Op
	fs.Observe(func(at *crashfs.Instant) {
		mu.Lock()
		defer mu.Unlock()
		ops = append(ops, at.Op)
	})
	return func() []crashfs.Op {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(ops)
	}
}

// TestFailedSync follows a pack whose fdatasync fails the way Linux fails it:
// the data is gone, the page cache shows it, and the next fdatasync would
// report success.
func TestFailedSync(t *testing.T) {
	fs := crashfs.New()
	o := testOptions(t, fs)
	ops := trace(fs)
	var given []error
	o.Events.PackGivenUp = func(id tier.ID, durable int, err error) { given = append(given, err) }
	s := openTest(t, o)
	w, other := s.NewWriter(), s.NewWriter()
	safe, _ := mustPut(t, w, blocks(1, 2, 3), nil)
	mustSync(t, w)
	lost, _ := mustPut(t, w, blocks(4, 5), nil)
	mustPut(t, other, blocks(1, 4), nil) // depends on a block of w's that is about to be lost

	fs.Inject(&crashfs.Fault{Match: packOp(crashfs.Sync), Effect: crashfs.DropDirty})
	for range 2 {
		if err := w.Sync(); !errors.Is(err, syscall.EIO) {
			t.Fatalf("sync: %v, want EIO", err)
		}
		if _, err := w.Put(block(1), nil, make([]Addr, 1)); !errors.Is(err, syscall.EIO) {
			t.Fatalf("put after a failed sync: %v, want EIO", err)
		}
	}
	if _, err := other.Put(block(9), nil, make([]Addr, 1)); !errors.Is(err, syscall.EIO) {
		t.Fatalf("put of a writer that depends on the lost block: %v, want EIO", err)
	}
	if err := other.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("sync of a writer that depends on the lost block: %v, want EIO", err)
	}
	if len(given) != 1 || s.Stats().PacksGivenUp != 1 {
		t.Errorf("events %v, stats %+v; want one pack given up", given, s.Stats().PacksGivenUp)
	}
	w.Close()
	other.Close()

	w = s.NewWriter()
	again, r := mustPut(t, w, blocks(1, 2, 3, 4, 5), nil)
	if r.New != 2 || r.Recent != 3 || !slices.Equal(again[:3], safe) || again[3].Pack() == lost[0].Pack() {
		t.Errorf("after the failure: %+v at %v; lost were %v", r, again, lost)
	}
	if _, r = mustPut(t, w, block(4), lost[:1]); r.Hint != 0 {
		t.Error("a lost block is a good hint")
	}
	if s.Have(safe) != nil || s.Have(lost) == nil {
		t.Errorf("have: safe %v, lost %v", s.Have(safe), s.Have(lost))
	}
	mustSync(t, w)
	w.Close()
	if err := crashfs.CheckFailedSyncs(ops(), crashfs.Under(packDir)); err != nil {
		t.Error(err)
	}

	for name, after := range map[string]*crashfs.FS{"kill": fs.Kill(), "power cut": fs.Crash(nil, crashfs.LoseAll)} {
		t.Run(name, func(t *testing.T) {
			ops := trace(after)
			s := openTest(t, testOptions(t, after))
			defer closeTest(t, s)
			checkRead(t, s, again, blocks(1, 2, 3, 4, 5))
			if err := s.Have(lost); err == nil {
				t.Error("the lost blocks are there again")
			}
			w := s.NewWriter()
			defer w.Close()
			if got, r := mustPut(t, w, blocks(1, 2, 3, 4, 5), nil); r.New != 0 || !slices.Equal(got, again) {
				t.Errorf("stored again: %+v at %v, before at %v", r, got, again)
			}
			mustSync(t, w)
			for _, op := range ops() {
				if op.Path == packPath(lost[0].Pack()) {
					t.Errorf("the given-up pack is touched: %v", op)
				}
			}
		})
	}
	closeTest(t, s)
}

// TestFailedSyncWhileSealing fails each of the two syncs of a seal.
func TestFailedSyncWhileSealing(t *testing.T) {
	for skip := range 2 {
		t.Run(fmt.Sprint(skip), func(t *testing.T) {
			s, fs := newStoreTest(t)
			ops := trace(fs)
			w := s.NewWriter()
			addrs, _ := mustPut(t, w, blocks(1, 2, 3), nil)
			w.Close()
			fs.Inject(&crashfs.Fault{Match: packOp(crashfs.Sync), Effect: crashfs.DropDirty, Skip: skip})
			if err := s.seal(s.pool.take()); !errors.Is(err, syscall.EIO) {
				t.Fatalf("seal: %v, want EIO", err)
			}
			w = s.NewWriter()
			defer w.Close()
			again, r := mustPut(t, w, blocks(1, 2, 3), nil)
			if wasSafe := skip == 1; wasSafe != slices.Equal(again, addrs) {
				t.Errorf("frames durable: %v; again %+v at %v, first at %v", wasSafe, r, again, addrs)
			}
			mustSync(t, w)
			if err := crashfs.CheckFailedSyncs(ops(), crashfs.Under(packDir)); err != nil {
				t.Error(err)
			}
			after := openTest(t, testOptions(t, fs.Crash(nil, crashfs.LoseAll)))
			defer closeTest(t, after)
			checkRead(t, after, again, blocks(1, 2, 3))
		})
	}
}

// TestFailedSyncAtOpen fails the sync of a pack found at Open.
func TestFailedSyncAtOpen(t *testing.T) {
	fs := crashfs.New()
	s := openTest(t, testOptions(t, fs))
	w := s.NewWriter()
	addrs, _ := mustPut(t, w, blocks(1, 2, 3), nil)
	after := fs.Kill()
	w.Close()
	closeTest(t, s)

	after.Inject(&crashfs.Fault{Match: func(op crashfs.Op) bool {
		return op.Kind == crashfs.Sync && op.Path == packPath(1)
	}, Effect: crashfs.DropDirty})
	s = openTest(t, testOptions(t, after))
	w = s.NewWriter()
	if again, r := mustPut(t, w, blocks(1, 2, 3), nil); r.New != 3 {
		t.Errorf("blocks of a pack that cannot be synced are found: %+v at %v", r, again)
	}
	w.Close()
	w = s.NewWriter()
	w.Depend(addrs...)
	if err := w.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("sync of a writer that depends on it: %v", err)
	}
	w.Close()
	closeTest(t, s)
	closeTest(t, openTest(t, testOptions(t, after)))
}

// TestEveryFailingOperation fails each operation on the tier once, in every
// way. What was acknowledged stays, and the store goes on.
func TestEveryFailingOperation(t *testing.T) {
	step, start := 3, 0 // each way of failing begins at another operation
	if raceEnabled {
		step = 13
	}
	for _, effect := range []crashfs.Effect{crashfs.Before, crashfs.After, crashfs.Short, crashfs.DropDirty} {
		for _, errno := range []error{syscall.EIO, syscall.ENOSPC} {
			start++
			for skip := start % step; ; skip += step {
				fault := &crashfs.Fault{Match: tierOp, Effect: effect, Err: errno, Skip: skip}
				if !failOnce(t, fault) {
					break
				}
			}
		}
	}
}

func tierOp(op crashfs.Op) bool { return op.Seq != 0 && strings.HasPrefix(op.Path, packDir) }

// failOnce runs a workload into a fault and reports whether it fired.
func failOnce(t *testing.T, fault *crashfs.Fault) bool {
	t.Helper()
	fs := crashfs.New()
	o := testOptions(t, fs)
	o.PackSize = MinPackSize
	ops := trace(fs)
	s := openTest(t, o)
	fs.Inject(fault)
	name := fmt.Sprintf("effect %d, %v, operation %d", fault.Effect, fault.Err, fault.Skip)
	type part struct {
		addrs   []Addr
		content []uint64
	}
	var synced, acked []part
	w := s.NewWriter()
	for i := range uint64(10) {
		p := part{make([]Addr, 5), count(1+i*4, 5)}
		if _, err := w.Put(blocks(p.content...), nil, p.addrs); err == nil {
			acked = append(acked, p)
		} else {
			if !errors.Is(err, fault.Err) && !errors.Is(err, syscall.EIO) {
				t.Errorf("%s: put: %v", name, err)
			}
			w.Close() // the session dies, the next one goes on
			w, acked = s.NewWriter(), nil
		}
		if i%4 == 3 {
			if err := w.Sync(); err == nil {
				synced = append(synced, acked...)
			} else {
				w.Close()
				w = s.NewWriter()
			}
			acked = nil
		}
	}
	w.Close()
	check := func(when string, s *Store) {
		t.Helper()
		for _, p := range synced {
			got := make([]byte, len(p.addrs)*BlockSize)
			if err := s.Read(p.addrs, got); err != nil || string(got) != string(blocks(p.content...)) {
				t.Errorf("%s: %s: synced blocks %v: %v", name, when, p.addrs, err)
			}
		}
	}
	check("running", s)
	closeErr := s.Close()
	fired := fs.Fired(fault) > 0
	fs.Heal()
	if closeErr != nil && !fired {
		t.Errorf("%s: close: %v", name, closeErr)
	}
	if err := crashfs.CheckFailedSyncs(ops(), packFile); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	after := fs.Crash(nil, crashfs.LoseAll)
	s, err := Open(testOptions(t, after))
	if err != nil {
		t.Fatalf("%s: open: %v", name, err)
	}
	check("after a power cut", s)
	closeTest(t, s)
	return fired
}

func packFile(p string) bool { return strings.HasSuffix(p, ".pack") }

// TestFailedWrite goes on in another pack: behind a failed write there may be
// anything.
func TestFailedWrite(t *testing.T) {
	for _, effect := range []crashfs.Effect{crashfs.Before, crashfs.Short, crashfs.After} {
		s, fs := newStoreTest(t)
		w := s.NewWriter()
		good, _ := mustPut(t, w, blocks(1, 2), nil)
		fs.Inject(&crashfs.Fault{Match: packOp(crashfs.Write), Effect: effect})
		if _, err := w.Put(blocks(3, 4), nil, make([]Addr, 2)); !errors.Is(err, syscall.EIO) {
			t.Errorf("put: %v, want EIO", err)
		}
		next, _ := mustPut(t, w, blocks(1, 2, 3, 4), nil)
		if !slices.Equal(next[:2], good) || next[2].Pack() == good[0].Pack() {
			t.Errorf("effect %d: blocks at %v before and %v after the failure", effect, good, next)
		}
		checkRead(t, s, next, blocks(1, 2, 3, 4))
		mustSync(t, w)
		w.Close()
	}
}

// TestFailingReads makes reads of packs fail: the error is the caller's, and a
// look-up that cannot be verified is a miss.
func TestFailingReads(t *testing.T) {
	s, fs := newStoreTest(t)
	w := s.NewWriter()
	defer w.Close()
	data := blocks(count(1, 60)...)
	addrs, _ := mustPut(t, w, data, nil)
	s.seals.Wait()
	s.files.clear()
	fs.Inject(&crashfs.Fault{Match: packOp(crashfs.Read), Sticky: true})
	if err := s.Read(addrs, make([]byte, len(data))); !errors.Is(err, syscall.EIO) {
		t.Errorf("read: %v, want EIO", err)
	}
	if _, r := mustPut(t, w, data[:BlockSize], addrs[:1]); r.New != 1 {
		t.Errorf("a hit was not verified: %+v", r)
	}
	fs.Heal()
	checkRead(t, s, addrs, data)
}

// TestReserve stops before the disk is full and goes on when there is room.
func TestReserve(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(t, fs)
	o.ReserveBytes = 10 << 20
	s := openTest(t, o)
	defer closeTest(t, s)
	w := s.NewWriter()
	defer w.Close()
	put := func(free uint64, n uint64) error {
		fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: free, TotalBytes: 100 << 20})
		s.space.checked = s.space.checked.Add(-2 * usageEvery)
		_, err := w.Put(block(n), nil, make([]Addr, 1))
		return err
	}
	frame := uint64(frameHeaderSize(1) + BlockSize)
	if err := put(10<<20+frame, 3); err != nil {
		t.Errorf("with exactly enough room: %v", err)
	}
	if err := put(10<<20+frame-1, 6); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("with one byte too few: %v, want ENOSPC", err)
	}
	if err := put(0, 9); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("on a full disk: %v, want ENOSPC", err)
	}
	if err := put(0, 3); err != nil {
		t.Errorf("a block that is there already: %v", err)
	}
	if err := put(50<<20, 6); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// TestFullDisk fills a small disk without a reserve. A failing store must not
// leave a pile of files, and goes on when there is room.
func TestFullDisk(t *testing.T) {
	fs := crashfs.New()
	o := testOptions(t, fs)
	s := openTest(t, o)
	w := s.NewWriter()
	fs.SetCapacity(8 << 20)
	var addrs []Addr
	failed := 0
	for i := uint64(1); failed < 20; i++ {
		out := make([]Addr, 1)
		if _, err := w.Put(block(3*i), nil, out); err == nil {
			addrs = append(addrs, out...)
			continue
		} else if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("put on a full disk: %v", err)
		}
		failed++
	}
	if n := len(packFiles(t, s)); n > 16 {
		t.Errorf("%d packs on a disk of 8 MiB", n)
	}
	fs.SetCapacity(0)
	out, _ := mustPut(t, w, block(1), nil)
	mustSync(t, w)
	addrs = append(addrs, out...)
	w.Close()
	closeTest(t, s)
	s = openTest(t, o)
	defer closeTest(t, s)
	got := make([]byte, len(addrs)*BlockSize)
	if err := s.Read(addrs, got); err != nil {
		t.Fatal(err)
	}
	if len(addrs) < 80 || string(got[:BlockSize]) != string(block(3)) || string(got[len(got)-BlockSize:]) != string(block(1)) {
		t.Error("the blocks stored before and after the disk was full are not there")
	}
}

// TestDamagedGivenUpPack: what a note says was durable and is not there is
// damage, and so is a damaged note.
func TestDamagedGivenUpPack(t *testing.T) {
	fs := crashfs.New()
	s := openTest(t, testOptions(t, fs))
	w := s.NewWriter()
	var safe []Addr
	for _, n := range []uint64{3, 6, 9} {
		a, _ := mustPut(t, w, block(n), nil)
		safe = append(safe, a...)
	}
	mustSync(t, w)
	mustPut(t, w, block(12), nil)
	fs.Inject(&crashfs.Fault{Match: packOp(crashfs.Sync), Effect: crashfs.DropDirty})
	if err := w.Sync(); err == nil {
		t.Fatal("the sync did not fail")
	}
	w.Close()
	base := fs.Kill()
	closeTest(t, s)
	path := packPath(safe[0].Pack())
	pack, note := readFile(t, base, path), readFile(t, base, strings.TrimSuffix(path, "pack")+"note")
	frame := frameHeaderSize(1) + BlockSize
	for name, spoil := range map[string]func(fs *crashfs.FS){
		"header": func(fs *crashfs.FS) {
			pack := slices.Clone(pack)
			pack[packHeaderSize+frame+3] ^= 1
			writeFile(t, fs, path, pack)
		},
		"truncated": func(fs *crashfs.FS) { writeFile(t, fs, path, pack[:packHeaderSize+frame+100]) },
		"note": func(fs *crashfs.FS) {
			writeFile(t, fs, strings.TrimSuffix(path, "pack")+"note", append(slices.Clone(note), 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			fs := base.Kill()
			spoil(fs)
			o := testOptions(t, fs)
			events := 0
			o.Events.Damage = func(*DamageError) { events++ }
			s := openTest(t, o)
			defer closeTest(t, s)
			if events == 0 {
				t.Error("the damage was not told of")
			}
			checkRead(t, s, safe[:1], block(3))
			if name == "note" {
				checkRead(t, s, safe, blocks(3, 6, 9))
				return
			}
			if err := s.Read(safe[1:2], make([]byte, BlockSize)); !isDamage(err) {
				t.Errorf("read: %v", err)
			}
			r, err := s.VerifyPack(context.Background(), safe[0].Pack(), nil)
			if err != nil || r.Whole || !slices.Contains(r.Damaged, safe[1]) {
				t.Errorf("verification: %+v, %v", r, err)
			}
		})
	}
}
