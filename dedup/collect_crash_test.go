package dedup

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
	"github.com/strongroom-backup/strongroom/tier"
)

// lifeLedger is what must be there at any moment, readable while the file
// system is locked.
type lifeLedger struct {
	mu   sync.Mutex
	live map[Addr]uint64
}

func (l *lifeLedger) add(addrs []Addr, ns []uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, a := range addrs {
		if a != 0 {
			l.live[a] = ns[i]
		}
	}
}

func (l *lifeLedger) drop(pick func(Addr, uint64) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.live, pick)
}

func (l *lifeLedger) snapshot() map[Addr]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.live)
}

// lifeState is a file system after a crash and the blocks that must be in it.
type lifeState struct {
	name string
	fs   *crashfs.FS
	live map[Addr]uint64
}

// crashes gathers what crashes at every few operations leave, until the
// returned function is called.
func (l *lifeLedger) crashes(fs *crashfs.FS, seed, every uint64) func() []lifeState {
	rng := rand.New(rand.NewPCG(seed, 5))
	var states []lifeState
	off := false
	fs.Observe(func(at *crashfs.Instant) {
		if off || at.Op.Seq%every != seed%every {
			return
		}
		profiles := crashfs.Profiles()
		p := profiles[rng.IntN(len(profiles))]
		st := lifeState{name: fmt.Sprintf("%s at operation %d (%v)", p.Name, at.Op.Seq, at.Op), live: l.snapshot()}
		if rng.IntN(4) == 0 {
			st.name, st.fs = "kill"+strings.TrimPrefix(st.name, p.Name), at.Kill()
		} else {
			st.fs = at.Crash(rng, p)
		}
		states = append(states, st)
	})
	return func() []lifeState {
		fs.At(func(*crashfs.Instant) { off = true })
		return states
	}
}

// lifeOptions are a store's on a file system that has a tier already.
func lifeOptions(t *testing.T, fs *crashfs.FS) Options {
	t.Helper()
	ts, err := tier.OpenDir(fs, tierDir, testStore)
	if err != nil {
		t.Fatal(err)
	}
	return Options{FS: fs, Dir: indexDir, Tier: ts, Key: testKey, StoreID: testStore, PackSize: MinPackSize}
}

func checkLive(t *testing.T, name string, s *Store, live map[Addr]uint64) {
	t.Helper()
	dst := make([]byte, BlockSize)
	for a, n := range live {
		if err := s.Read([]Addr{a}, dst); err != nil || !bytes.Equal(dst, block(n)) {
			t.Fatalf("%s: block %v: %v", name, a, err)
		}
	}
}

// packContents is every byte of the tier's packs.
func packContents(t *testing.T, fs *crashfs.FS) map[string]string {
	t.Helper()
	out := map[string]string{}
	groups, err := fs.List(packDir)
	must(t, err)
	for _, g := range groups {
		names, err := fs.List(packDir + "/" + g)
		must(t, err)
		for _, name := range names {
			out[g+"/"+name] = string(readFile(t, fs, packDir+"/"+g+"/"+name))
		}
	}
	return out
}

// checkLifeState opens what a crash left, twice: the second changes nothing.
// Then the store is worked with as if nothing had been.
func checkLifeState(t *testing.T, st lifeState) {
	t.Helper()
	var first map[string]string
	for round := range 2 {
		s, err := Open(lifeOptions(t, st.fs))
		if err != nil {
			t.Fatalf("%s: round %d: %v", st.name, round, err)
		}
		checkLive(t, st.name, s, st.live)
		closeTest(t, s)
		switch now := packContents(t, st.fs); {
		case round == 0:
			first = now
			st.fs = st.fs.Crash(nil, crashfs.LoseAll) // what Open and Close made durable, is
		case !maps.Equal(now, first):
			t.Fatalf("%s: the second start changed %v to %v", st.name, slices.Sorted(maps.Keys(first)), slices.Sorted(maps.Keys(now)))
		}
	}
	s, err := Open(lifeOptions(t, st.fs))
	if err != nil {
		t.Fatalf("%s: %v", st.name, err)
	}
	w := s.NewWriter()
	ns := count(1, 70)
	addrs, _ := mustPut(t, w, blocks(ns...), nil)
	mustSync(t, w)
	w.Close()
	live := maps.Clone(st.live)
	for i, a := range addrs {
		if n, ok := live[a]; ok && n != ns[i] {
			t.Fatalf("%s: block %v had content %d and is now %d", st.name, a, n, ns[i])
		}
		if i%3 == 0 {
			live[a] = ns[i]
		}
	}
	collect(t, s, slices.Collect(maps.Keys(live)), SweepOptions{})
	checkLive(t, st.name, s, live)
	checkWhole(t, s)
	if got, want := s.Stats().PackBytes, sum(tierFiles(t, s)); got > want || got < want-frameRaw { // the torn end of a pack that was open is not counted
		t.Errorf("%s: PackBytes %d, files have %d", st.name, got, want)
	}
	closeTest(t, s)
}

// lifeRun stores, forgets and collects.
func lifeRun(t *testing.T, fs *crashfs.FS, l *lifeLedger) {
	for round := range uint64(3) {
		s := openTest(t, lifeOptions(t, fs))
		w := s.NewWriter()
		for i := range uint64(3) {
			ns := count(1+round*15+i*9, 12)
			addrs, _ := mustPut(t, w, blocks(ns...), nil)
			mustSync(t, w)
			l.add(addrs, ns)
		}
		w.Close()
		if round < 2 {
			sealAll(t, s)
		}
		l.drop(func(a Addr, n uint64) bool { return a.Pack()%2 == 1 && n%4 != 0 || n%5 == round })
		collect(t, s, slices.Collect(maps.Keys(l.snapshot())), SweepOptions{})
		checkLive(t, "running", s, l.snapshot())
		closeTest(t, s)
	}
}

func crashSteps() (every uint64, all []uint64) {
	if raceEnabled {
		return 61, seeds(1)
	}
	return 15, seeds(2)
}

// TestCrashWhileCollecting cuts the power at every few operations of runs that
// store, forget, remove and compact.
func TestCrashWhileCollecting(t *testing.T) {
	every, seeds := crashSteps()
	for _, seed := range seeds {
		fs := crashfs.New()
		testOptions(t, fs)
		l := &lifeLedger{live: map[Addr]uint64{}}
		states := l.crashes(fs, seed, every)
		lifeRun(t, fs, l)
		all := states()
		t.Logf("seed %d: %d states", seed, len(all))
		for _, st := range all {
			checkLifeState(t, st)
		}
	}
}

// rottenStore is a store with damage in two packs: of one all damaged blocks
// have been stored again, of the other not.
func rottenStore(t *testing.T) (fs *crashfs.FS, live map[Addr]uint64, lost []Addr) {
	t.Helper()
	fs = crashfs.New()
	testOptions(t, fs)
	s := openTest(t, lifeOptions(t, fs))
	a := storeSealed(t, s, count(1, 8))
	b := storeSealed(t, s, count(11, 8))
	live = map[Addr]uint64{}
	for i := range a {
		live[a[i]], live[b[i]] = uint64(i+1), uint64(i+11)
	}
	rot := func(addr Addr) {
		v, err := s.view(addr.Pack())
		must(t, err)
		e := v.slots[v.find(addr.Slot())]
		f := v.frames[e.frame]
		path := packPath(addr.Pack())
		bad := readFile(t, fs, path)
		bad[f.dataOffset()+20] ^= 0x80
		writeFile(t, fs, path, bad)
	}
	rot(a[1])
	rot(b[5])
	s.files.clear()
	for _, addr := range []Addr{a[1], b[5]} {
		r, err := s.VerifyPack(context.Background(), addr.Pack(), nil)
		must(t, err)
		if r.Whole || len(r.Damaged) == 0 {
			t.Fatalf("rot in pack %d was not found: %+v", addr.Pack(), r)
		}
		if addr == b[5] {
			lost = r.Damaged
		}
	}
	again := storeSealed(t, s, count(1, 8)) // only a's
	for i, addr := range again {
		live[addr] = uint64(i + 1)
	}
	for _, addr := range lost {
		delete(live, addr)
	}
	closeTest(t, s)
	return fs, live, lost
}

// TestCrashWhileRepairing cuts the power while packs are verified and written
// anew.
func TestCrashWhileRepairing(t *testing.T) {
	every, seeds := crashSteps()
	for _, seed := range seeds {
		fs, live, lost := rottenStore(t)
		l := &lifeLedger{live: live}
		s := openTest(t, lifeOptions(t, fs))
		states := l.crashes(fs, seed, max(1, every/3))
		for pack := range uint64(3) {
			_, err := s.VerifyPack(context.Background(), pack+1, nil)
			must(t, err)
			r, err := s.RepairPack(context.Background(), pack+1)
			must(t, err)
			if want := []int{4, 0, 0}; pack == 0 && r.Repaired == 0 || pack == 1 && (r.Repaired != 0 || r.Left != len(lost)) || r.Left > 0 && want[pack] > 0 {
				t.Errorf("pack %d: %+v", pack+1, r)
			}
		}
		checkLive(t, "repaired", s, live)
		closeTest(t, s)
		all := states()
		t.Logf("seed %d: %d states", seed, len(all))
		for _, st := range all {
			for round := range 2 {
				s := openTest(t, lifeOptions(t, st.fs))
				checkLive(t, st.name, s, st.live)
				for _, a := range lost {
					if err := s.Read([]Addr{a}, make([]byte, BlockSize)); !isDamage(err) {
						t.Errorf("%s: round %d: the lost block %v: %v", st.name, round, a, err)
					}
				}
				w := s.NewWriter()
				if _, r := mustPut(t, w, blocks(count(1, 8)...), nil); r.New != 0 {
					t.Errorf("%s: round %d: stored once more: %+v", st.name, round, r)
				}
				w.Close()
				_, err := s.RepairPack(context.Background(), 1)
				must(t, err)
				closeTest(t, s)
			}
		}
	}
}
