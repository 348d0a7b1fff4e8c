package catalog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/dedup"
)

// accountOptions are those of a catalog with a store of which blocks take
// something.
func accountOptions(store *fakeStore) Options {
	o := testOptions(newFS())
	o.idle, o.StoredBytes, o.PackVersion = false, store.StoredBytes, store.PackVersion
	return o
}

// narrow gives the accounts random little room.
func narrow(c *Catalog, rng *rand.Rand) {
	a := &c.accounts
	a.asking.Lock()
	a.mu.Lock()
	a.work.maxRecords, a.work.maxChanges = 1+rng.IntN(5), 1+rng.IntN(40)
	a.window = accountWindow{numbers: 4 + rng.IntN(30), slots: 4 + rng.IntN(100), places: 4 + rng.IntN(20), records: 1 + rng.IntN(500)}
	a.mu.Unlock()
	a.asking.Unlock()
}

// checkAccounts compares all answers with the long way.
func checkAccounts(t testing.TB, what string, c *Catalog, store *fakeStore, rng *rand.Rand) {
	t.Helper()
	if err := c.accounts.apply(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	b, err := newBrute(c, store)
	if err == nil {
		err = b.check(c, rng)
	}
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// TestAccountHistories compares answers with the long way, over random
// histories with restarts, lost databases and recounts, and memory for all or
// for little at a time.
func TestAccountHistories(t *testing.T) {
	for _, seed := range seeds(t, 8) {
		what := fmt.Sprintf("STRONGROOM_SEED=%d", seed)
		rng := rand.New(rand.NewPCG(seed, 11))
		store := newFakeStore()
		g := &accountant{rng: rng, store: store}
		o := accountOptions(store)
		if rng.IntN(4) == 0 {
			o.PackVersion = nil
		}
		o.idle = rng.IntN(3) == 0
		for range 4 {
			c := mustOpen(t, o)
			if rng.IntN(3) > 0 {
				narrow(c, rng)
			}
			for range 40 {
				if err := g.step(c); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				switch rng.IntN(16) {
				case 0, 1:
					checkAccounts(t, what, c, store, rng)
				case 2:
					if r, err := c.RecountAccounts(); err != nil || r.Differing != 0 {
						t.Fatalf("%s: recount: %+v, %v", what, r, err)
					}
				}
			}
			checkAccounts(t, what, c, store, rng)
			mustClose(t, c)
			if rng.IntN(2) == 0 {
				if err := o.FS.RemoveAll(o.Dir); err != nil {
					t.Fatal(err)
				}
			}
		}
		t.Logf("%s: steps %v", what, g.kinds)
	}
}

// history makes a catalog with a random history.
func accountHistory(t *testing.T, seed uint64, steps int) (*Catalog, *fakeStore, *rand.Rand) {
	rng := rand.New(rand.NewPCG(seed, 12))
	store := newFakeStore()
	g := &accountant{rng: rng, store: store}
	o := accountOptions(store)
	o.idle = true
	c := mustOpen(t, o)
	t.Cleanup(func() { mustClose(t, c) })
	for range steps {
		if err := g.step(c); err != nil {
			t.Fatal(err)
		}
	}
	return c, store, rng
}

// TestAccountMistakes spoils the accounts in every way; the next question has
// them made anew, and a second time they only say so.
func TestAccountMistakes(t *testing.T) {
	somePage := func(c *Catalog) (key, value []byte) {
		s, _ := getAccountState(c.db)
		scan(c.db, accountsPrefix(s.epoch), func(k, v []byte) error {
			key, value = append([]byte(nil), k...), append([]byte(nil), v...)
			return nil
		})
		return key, value
	}
	for name, spoil := range map[string]func(c *Catalog){
		"page lost":            func(c *Catalog) { k, _ := somePage(c); c.db.Delete(k, nil) },
		"page cannot be read":  func(c *Catalog) { k, v := somePage(c); c.db.Set(k, v[:len(v)-1], nil) },
		"state cannot be read": func(c *Catalog) { c.db.Set([]byte{keyAccounts}, []byte{9}, nil) },
		"queue cannot be read": func(c *Catalog) { c.db.Set(queueKey(1<<40), []byte{7}, nil) },
		"queue names what is not there": func(c *Catalog) {
			c.db.Set(queueKey(1<<40), appendQueue(nil, queueBorn, []chunkRun{{1 << 40, 3}}), nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, store, rng := accountHistory(t, 5, 60)
			checkAccounts(t, "before", c, store, rng)
			spoil(c)
			c.forgetAnswers()
			checkAccounts(t, "after", c, store, rng)
			if n := c.AccountStats().Recounts; n != 1 {
				t.Errorf("%d recounts", n)
			}
			spoil(c)
			c.forgetAnswers()
			_, err := c.VMUsage("vm0")
			_, err2 := c.VMUsage("vm1")
			if err = errors.Join(err, err2); !errors.Is(err, ErrAccounts) {
				t.Errorf("the second time: %v", err)
			}
			if _, err := c.RecountAccounts(); err != nil {
				t.Errorf("on request: %v", err)
			}
			checkAccounts(t, "on request", c, store, rng)
		})
	}
}

// TestRecountFindsDifferences in counts that look sound.
func TestRecountFindsDifferences(t *testing.T) {
	c, store, rng := accountHistory(t, 6, 60)
	checkAccounts(t, "before", c, store, rng)
	want, err := c.RecountAccounts()
	if err != nil || want.Differing != 0 || want.Packs == 0 || want.Chunks == 0 {
		t.Fatalf("%+v, %v", want, err)
	}
	s, _ := getAccountState(c.db)
	runs, err := getPage(c.db, s.epoch, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	runs[0].count += 5
	c.db.Set(pageKey(s.epoch, 2), appendPage(nil, runs), nil)
	c.db.Set(pageKey(s.epoch, 77), appendPage(nil, runs), nil)
	got, err := c.RecountAccounts()
	if want.Differing = 2; err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	checkAccounts(t, "after", c, store, rng)
}

// TestAuditAccounts against marks that are right, too many and too few.
func TestAuditAccounts(t *testing.T) {
	c, _, _ := accountHistory(t, 7, 80)
	b, err := newBrute(c, newFakeStore())
	if err != nil {
		t.Fatal(err)
	}
	marks := map[uint64][]uint64{}
	for a := range b.slots {
		if marks[a.Pack()] == nil {
			marks[a.Pack()] = make([]uint64, pageSlots/64)
		}
		marks[a.Pack()][a.Slot()>>6] |= 1 << (a.Slot() & 63)
	}
	live := func(pack uint64) []uint64 { return marks[pack] }
	got, err := c.AuditAccounts(live, true)
	want := Audit{Packs: int64(len(marks)), Counted: int64(len(b.slots)), Marked: int64(len(b.slots))}
	if err != nil || got != want || got.Packs < 3 {
		t.Fatalf("%+v, %v; want %+v", got, err, want)
	}
	marks[2][9999>>6] |= 1 << (9999 & 63)
	want.Marked, want.Uncounted, want.First = want.Marked+1, 1, 2
	if got, err := c.AuditAccounts(live, false); err != nil || got != want {
		t.Errorf("a mark of a session: %+v, %v; want %+v", got, err, want)
	}
	if got, err := c.AuditAccounts(live, true); !errors.Is(err, ErrAccounts) || got != want {
		t.Errorf("a mark too many: %+v, %v; want %+v", got, err, want)
	}
	marks[2][9999>>6] = 0
	marks[3] = marks[3][:0]
	got, err = c.AuditAccounts(live, false)
	if !errors.Is(err, ErrAccounts) || got.Unmarked == 0 || got.First != 3 {
		t.Errorf("marks too few: %+v, %v", got, err)
	}
	marks[3] = nil
	if got, err := c.AuditAccounts(live, true); err != nil || got.Packs != want.Packs-1 {
		t.Errorf("a pack not to be compared: %+v, %v", got, err)
	}
}

// TestAccountsBesideCommits asks while points come and go, and closes in the
// middle of it. An answer is of one moment: then what is unique to all points
// of the only VM is what the store has.
func TestAccountsBesideCommits(t *testing.T) {
	store := newFakeStore()
	o := accountOptions(store)
	o.Clock = nil
	c := mustOpen(t, o)
	var all sync.WaitGroup
	loop := func(do func(i int) error) {
		all.Go(func() {
			for i := 0; ; i++ {
				if err := do(i); errors.Is(err, ErrClosed) {
					return
				} else if err != nil && !errors.Is(err, ErrNotFound) {
					t.Error(err)
					return
				}
			}
		})
	}
	asked := make(chan struct{}, 1000)
	loop(func(i int) error {
		k := &Chunk{Hash: dedup.Hash{1, byte(i), byte(i >> 8)}, Length: dedup.ChunkSize,
			Runs: []Run{{0, 5, dedup.MakeAddr(1+uint64(i%7), uint16(i%100))}}}
		if _, err := c.Commit(onePoint(i, "vm", ChunkRef{New: k})); err != nil {
			return err
		}
		if i < 20 {
			return nil
		}
		if err := c.Remove(testID(i - 20)); err != nil {
			return err
		}
		return c.Forget(testID(i - 20))
	})
	loop(func(int) error {
		u, err := c.VMUsage("vm")
		if err == nil && (u.Shared%blockBytes != 0 || u.Unique < 5*blockBytes) {
			return fmt.Errorf("%+v", u)
		}
		select {
		case asked <- struct{}{}:
		default:
		}
		return err
	})
	loop(func(int) error { _, err := c.StoreUsage(); return err })
	loop(func(int) error { _, err := c.ChainUsage("vm", "vda"); return err })
	loop(func(int) error { _, err := c.RecountAccounts(); time.Sleep(5 * time.Millisecond); return err })
	loop(func(int) error {
		if s := c.AccountStats(); s.Err != nil {
			return s.Err
		}
		_, err := c.Points("")
		return err
	})
	for range 100 {
		<-asked
	}
	mustClose(t, c)
	all.Wait()
	c = mustOpen(t, o)
	checkAccounts(t, "opened again", c, store, rand.New(rand.NewPCG(1, 1)))
	if s := c.AccountStats(); s.Queued != 0 || s.Recounts != 0 || s.Err != nil {
		t.Errorf("%+v", s)
	}
	mustClose(t, c)
}

// TestUsageOfWhat is not there.
func TestUsageOfWhat(t *testing.T) {
	c, _, _ := accountHistory(t, 8, 30)
	_, e1 := c.Usage(testID(9999))
	_, e2 := c.VMUsage("nobody")
	_, e3 := c.DiskUsage("vm0", "vdz")
	_, e4 := c.ChainUsage("nobody", "vda")
	for _, err := range []error{e1, e2, e3, e4} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%v, want ErrNotFound", err)
		}
	}
	if u, err := c.Usage(); err != nil || u != (Usage{}) {
		t.Errorf("of nothing: %+v, %v", u, err)
	}
	if _, err := c.VMUsage(""); !errors.Is(err, ErrInvalid) {
		t.Errorf("of no VM: %v", err)
	}
}

// TestAnswersAreKept until something changes.
func TestAnswersAreKept(t *testing.T) {
	c, store, _ := accountHistory(t, 9, 60)
	calls := func(ask func() error) int {
		before := store.calls
		if err := ask(); err != nil {
			t.Fatal(err)
		}
		return store.calls - before
	}
	chain := func() error { _, err := c.ChainUsage("vm0", "vda"); return err }
	all := func() error { _, err := c.StoreUsage(); return err }
	if calls(chain) == 0 || calls(all) == 0 || calls(chain) != 0 || calls(all) != 0 {
		t.Error("answers are not kept, or made of nothing")
	}
	store.compact(2)
	whole := calls(all)
	if calls(chain) == 0 || whole == 0 || calls(all) != 0 {
		t.Error("answers survive a compaction")
	}
	mustCommit(t, c, onePoint(500, "vm9", ChunkRef{New: testChunk(1, Run{0, 1, dedup.MakeAddr(900, 1)})}))
	if n := calls(all); n != 1 {
		t.Errorf("one new block: %d asked for", n)
	}
}

// TestSettleAlone: with commits kept out a view is found whatever is queued.
func TestSettleAlone(t *testing.T) {
	c, store, rng := accountHistory(t, 10, 40)
	v, err := c.accounts.settleAlone()
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	checkAccounts(t, "settled", c, store, rng)
}
