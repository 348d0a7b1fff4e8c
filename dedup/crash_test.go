package dedup

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
	"github.com/strongroom-backup/strongroom/tier"
)

// crashState is a file system after a crash and what must be in it.
type crashState struct {
	name   string
	fs     *crashfs.FS
	synced []Addr
	acked  []Addr
	killed bool // then acked is there too
}

// ledger is what a workload knows, readable while the file system is locked.
type ledger struct {
	mu      sync.Mutex
	content map[Addr]uint64
	acked   []Addr
	synced  []Addr
}

func (l *ledger) put(addrs []Addr, ns []uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, a := range addrs {
		l.content[a] = ns[i]
		l.acked = append(l.acked, a)
	}
}

func (l *ledger) sync() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.synced = append([]Addr(nil), l.acked...)
}

// crashWorkload fills a few packs, syncs now and then, closes and opens.
func crashWorkload(t *testing.T, fs *crashfs.FS, l *ledger) {
	for round := range uint64(3) {
		ts, err := tier.OpenDir(fs, tierDir, testStore)
		if err != nil {
			t.Fatal(err)
		}
		s := openTest(t, Options{FS: fs, Dir: indexDir, Tier: ts, Key: testKey, StoreID: testStore, PackSize: MinPackSize})
		w := s.NewWriter()
		for i := range uint64(8) {
			ns := count(1+round*20+i*5, 6) // one block twice each time
			addrs, _ := mustPut(t, w, blocks(ns...), nil)
			l.put(addrs, ns)
			if i%3 == 2 {
				mustSync(t, w)
				l.sync()
			}
		}
		w.Close()
		closeTest(t, s)
		l.sync()
	}
}

// TestCrashAtEveryOperation cuts the power, or kills the process, at every few
// operations of a run and opens what is left.
func TestCrashAtEveryOperation(t *testing.T) {
	every := uint64(3)
	if raceEnabled {
		every = 41
	}
	fs := crashfs.New()
	testOptions(t, fs)
	l := &ledger{content: map[Addr]uint64{}}
	rng := rand.New(rand.NewPCG(3, 3))
	var states []crashState
	fs.Observe(func(at *crashfs.Instant) {
		if at.Op.Seq%every != 0 {
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		profiles := crashfs.Profiles()
		p := profiles[rng.IntN(len(profiles))]
		name := fmt.Sprintf("%s at operation %d (%v)", p.Name, at.Op.Seq, at.Op)
		st := crashState{name: name, synced: l.synced[:len(l.synced):len(l.synced)], acked: l.acked[:len(l.acked):len(l.acked)]}
		if st.killed = rng.IntN(4) == 0; st.killed {
			st.name, st.fs = "kill"+strings.TrimPrefix(name, p.Name), at.Kill()
		} else {
			st.fs = at.Crash(rng, p)
		}
		states = append(states, st)
	})
	crashWorkload(t, fs, l)
	t.Logf("%d states", len(states))
	for _, st := range states {
		checkCrashState(t, st, l.content)
	}
}

func checkCrashState(t *testing.T, st crashState, content map[Addr]uint64) {
	t.Helper()
	ts, err := tier.OpenDir(st.fs, tierDir, testStore)
	if err != nil {
		t.Fatalf("%s: %v", st.name, err)
	}
	o := Options{FS: st.fs, Dir: indexDir, Tier: ts, Key: testKey, StoreID: testStore, PackSize: MinPackSize}
	for round := range 2 { // the second finds what the first made of it
		o.Events.Damage = func(err *DamageError) {
			// Both tables and the footer are written at once, and the end may be there
			// without the beginning.
			if !strings.Contains(err.Error(), "the first table of contents is damaged, the second is used") {
				t.Errorf("%s: round %d: %v", st.name, round, err)
			}
		}
		s, err := Open(o)
		if err != nil {
			t.Fatalf("%s: open: %v", st.name, err)
		}
		dst, there := make([]byte, BlockSize), st.synced
		if st.killed {
			there = st.acked
		}
		for _, a := range there {
			if err := s.Read([]Addr{a}, dst); err != nil || !bytes.Equal(dst, block(content[a])) {
				t.Fatalf("%s: round %d: block %v: %v", st.name, round, a, err)
			}
		}
		w := s.NewWriter()
		ns := count(1, 75)
		addrs, _ := mustPut(t, w, blocks(ns...), nil)
		mustSync(t, w)
		for i, a := range addrs {
			if slices.Contains(st.acked, a) && content[a] != ns[i] {
				t.Fatalf("%s: block %v had content %d and is now %d", st.name, a, content[a], ns[i])
			}
		}
		checkRead(t, s, addrs, blocks(ns...))
		w.Close()
		closeTest(t, s)
		if round == 0 { // what Open and Close made durable, is
			fs := st.fs.Crash(nil, crashfs.LoseAll)
			if len(st.name)%3 == 0 {
				must(t, fs.RemoveAll(indexDir))
			}
			ts, err := tier.OpenDir(fs, tierDir, testStore)
			must(t, err)
			o.FS, o.Tier = fs, ts
		}
	}
}

// TestOrderOfSyncs holds what recovery rests on: when a footer is written,
// every frame before it is durable, and the index does not know the pack yet.
func TestOrderOfSyncs(t *testing.T) {
	fs := crashfs.New()
	o := testOptions(t, fs)
	var tails atomic.Int64
	var s *Store
	o.PackSize = MinPackSize
	o.Tier = &spyTier{Store: o.Tier, onWrite: func(id tier.ID, b []byte) {
		if !bytes.HasPrefix(b, []byte(tocMagic)) {
			return
		}
		tails.Add(1)
		if _, err := s.index.get(packKey('p', id.Pack)); !errors.Is(err, pebble.ErrNotFound) {
			t.Errorf("%v is in the index before it is durable: %v", id, err)
		}
		name := packPath(id.Pack)
		for _, u := range fs.Unsynced(func(p string) bool { return p == name }) {
			t.Errorf("footer of %v written while %v", id, u)
		}
	}}
	s = openTest(t, o)
	w := s.NewWriter()
	for i := range uint64(20) {
		mustPut(t, w, blocks(count(1+i*5, 5)...), nil)
	}
	w.Close()
	closeTest(t, s)
	if n := tails.Load(); n < 3 {
		t.Errorf("only %d packs were sealed", n)
	}
}

// spyTier shows every write to a pack before it happens.
type spyTier struct {
	tier.Store
	onWrite func(id tier.ID, b []byte)
}

func (s *spyTier) Create(id tier.ID) (tier.File, error) {
	f, err := s.Store.Create(id)
	return &spyFile{File: f, id: id, spy: s}, err
}

type spyFile struct {
	tier.File
	id  tier.ID
	spy *spyTier
}

func (f *spyFile) WriteAt(b []byte, off int64) (int, error) {
	f.spy.onWrite(f.id, b)
	return f.File.WriteAt(b, off)
}
