package crashfs

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
)

// quiet throws Pebble's messages away and turns its last words into a panic.
type quiet struct{}

func (quiet) Infof(string, ...any)         {}
func (quiet) Errorf(string, ...any)        {}
func (quiet) Fatalf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }

func openDB(fs *FS, cache *pebble.Cache) (*pebble.DB, error) {
	return pebble.Open("/db", &pebble.Options{
		FS: fs, Cache: cache, Logger: quiet{}, MemTableSize: 16 << 10,
		FormatMajorVersion: pebble.FormatNewest, L0CompactionThreshold: 2,
	})
}

// checker verifies crash states on workers of its own while the run goes on.
type checker struct {
	t      *testing.T
	states chan func() error
	wg     sync.WaitGroup
	mu     sync.Mutex
	failed []error
	count  int
}

func newChecker(t *testing.T) *checker {
	c := &checker{t: t, states: make(chan func() error, 16)}
	for range 2 {
		c.wg.Go(func() {
			for verify := range c.states {
				err := verify()
				c.mu.Lock()
				if c.count++; err != nil {
					c.failed = append(c.failed, err)
				}
				c.mu.Unlock()
			}
		})
	}
	return c
}

func (c *checker) finish() (states int, failed []error) {
	close(c.states)
	c.wg.Wait()
	return c.count, c.failed
}

// TestPebbleSurvives: after every power cut the database is what it was after
// some batch, no earlier than the last one whose sync was answered.
func TestPebbleSurvives(t *testing.T) {
	rng := seeded(t)
	cache := pebble.NewCache(1 << 20)
	defer cache.Unref()
	states, check := 0, newChecker(t)
	for range 2 * soak(t) {
		run := &pebbleRun{fs: New(), rng: rng, cache: cache}
		run.fs.Observe(func(at *Instant) {
			if at.Op.Seq%3 == 0 {
				p := Profiles()[rng.IntN(6)]
				clone, low, high := at.Crash(rng, p), run.synced, run.started
				check.states <- func() error { return run.verify(clone, low, high, at.Op, p) }
			}
		})
		run.work(t)
	}
	states, failed := check.finish()
	for _, err := range failed {
		t.Error(err)
	}
	if states < 600 {
		t.Errorf("only %d states were seen", states)
	}
	t.Logf("%d states", states)
}

// pebbleRun writes batches of which number i sets "seq" to i and three keys of
// a few to i. Its fields are read by the observer, under the FS lock.
type pebbleRun struct {
	fs              *FS
	rng             *rand.Rand
	cache           *pebble.Cache
	synced, started int
}

const pebbleKeys = 40

func (r *pebbleRun) work(t *testing.T) {
	db, err := openDB(r.fs, r.cache)
	must(t, err)
	pad := strings.Repeat("x", 300)
	for i := 1; i <= 700; i++ {
		b := db.NewBatch()
		must(t, b.Set([]byte("seq"), []byte(strconv.Itoa(i)), nil))
		for k := range 3 {
			must(t, b.Set(batchKey(i, k), []byte(strconv.Itoa(i)+" "+pad), nil))
		}
		sync := i%3 == 0
		r.set(func() { r.started = i })
		must(t, b.Commit(&pebble.WriteOptions{Sync: sync}))
		if sync {
			r.set(func() { r.synced = i })
		}
	}
	must(t, db.Close())
}

// set changes what the observer reads.
func (r *pebbleRun) set(f func()) {
	r.fs.mu.Lock()
	defer r.fs.mu.Unlock()
	f()
}

func batchKey(i, k int) []byte { return fmt.Appendf(nil, "key%02d", (i*(k+1)+k)%pebbleKeys) }

func (r *pebbleRun) verify(fs *FS, low, high int, op Op, p Profile) (err error) {
	defer func() {
		if x := recover(); x != nil {
			err = fmt.Errorf("%v", x)
		}
		if err != nil {
			err = fmt.Errorf("%s at operation %d (%v): %w", p.Name, op.Seq, op, err)
		}
	}()
	db, err := openDB(fs, r.cache)
	if err != nil {
		return err
	}
	defer db.Close()
	at := 0
	if v, ok, err := get(db, "seq"); err != nil {
		return err
	} else if ok {
		if at, err = strconv.Atoi(v); err != nil {
			return err
		}
	}
	if at < low || at > high {
		return fmt.Errorf("the last batch is %d, want %d to %d", at, low, high)
	}
	return sameAs(db, at)
}

func sameAs(db *pebble.DB, at int) error {
	want := map[string]int{}
	for i := 1; i <= at; i++ {
		for k := range 3 {
			want[string(batchKey(i, k))] = i
		}
	}
	for k := range pebbleKeys {
		key := fmt.Sprintf("key%02d", k)
		v, ok, err := get(db, key)
		if err != nil {
			return err
		}
		if i, there := want[key]; ok != there || ok && !strings.HasPrefix(v, fmt.Sprintf("%d ", i)) {
			return fmt.Errorf("at batch %d %s is %.10q (%v), want %d (%v)", at, key, v, ok, i, there)
		}
	}
	return nil
}

func get(db *pebble.DB, key string) (string, bool, error) {
	v, closer, err := db.Get([]byte(key))
	if errors.Is(err, pebble.ErrNotFound) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	defer closer.Close()
	return string(v), true, nil
}

// The store of the mutants: packs beside an index in Pebble that names them.
type mutant struct {
	name   string
	caught bool
	store  func(*packRun, int) error
	forget func(*packRun, int) error
}

func TestMutants(t *testing.T) {
	for _, m := range []mutant{
		{"right order", false, (*packRun).syncThenIndex, (*packRun).indexThenUnlink},
		{"unlink, then index without sync", true, (*packRun).syncThenIndex, (*packRun).unlinkThenIndex},
		{"no sync of the pack", true, (*packRun).indexUnsynced, (*packRun).indexThenUnlink},
		{"no sync of the directory", true, (*packRun).indexNameless, (*packRun).indexThenUnlink},
	} {
		t.Run(m.name, func(t *testing.T) {
			states, failed := m.run(t)
			t.Logf("%d of %d states are broken", len(failed), states)
			switch {
			case m.caught && len(failed) == 0:
				t.Error("the mutant was not caught")
			case !m.caught && len(failed) > 0:
				t.Errorf("sound code was flagged: %v", failed[0])
			}
		})
	}
}

func (m mutant) run(t *testing.T) (int, []error) {
	rng, fs, check := seeded(t), New(), newChecker(t)
	cache := pebble.NewCache(1 << 20)
	defer cache.Unref()
	must(t, fs.MkdirAll("/packs", 0))
	syncDir(t, fs, "/")
	db, err := openDB(fs, cache)
	must(t, err)
	fs.Observe(func(at *Instant) {
		for range 2 {
			clone := at.Crash(rng, Random)
			check.states <- func() error { return danglingPacks(clone, cache) }
		}
	})
	r := &packRun{t: t, fs: fs, db: db}
	for i := range 40 {
		must(t, m.store(r, i))
		if i >= 3 {
			must(t, m.forget(r, i-3))
		}
	}
	must(t, db.Close())
	return check.finish()
}

// packRun stores pack i as a file of i's and a key in the index.
type packRun struct {
	t  *testing.T
	fs *FS
	db *pebble.DB
}

func packName(i int) string { return fmt.Sprintf("/packs/%d", i) }

func packText(i int) string { return strings.Repeat(fmt.Sprintf("%04d", i), 500) }

func (r *packRun) index(i int) error {
	return r.db.Set([]byte(strconv.Itoa(i)), nil, pebble.Sync)
}

func (r *packRun) syncThenIndex(i int) error {
	if err := create(r.t, r.fs, packName(i), packText(i)).Sync(); err != nil {
		return err
	}
	syncDir(r.t, r.fs, "/packs")
	return r.index(i)
}

func (r *packRun) indexUnsynced(i int) error {
	create(r.t, r.fs, packName(i), packText(i))
	syncDir(r.t, r.fs, "/packs")
	return r.index(i)
}

func (r *packRun) indexNameless(i int) error {
	if err := create(r.t, r.fs, packName(i), packText(i)).Sync(); err != nil {
		return err
	}
	return r.index(i)
}

func (r *packRun) indexThenUnlink(i int) error {
	if err := r.db.Delete([]byte(strconv.Itoa(i)), pebble.Sync); err != nil {
		return err
	}
	return r.fs.Remove(packName(i))
}

func (r *packRun) unlinkThenIndex(i int) error {
	if err := r.fs.Remove(packName(i)); err != nil {
		return err
	}
	return r.db.Delete([]byte(strconv.Itoa(i)), pebble.NoSync)
}

// danglingPacks reports a pack the index names and the disk does not have whole.
func danglingPacks(fs *FS, cache *pebble.Cache) error {
	db, err := openDB(fs, cache)
	if err != nil {
		return err
	}
	defer db.Close()
	it, err := db.NewIter(nil)
	if err != nil {
		return err
	}
	defer it.Close()
	for it.First(); it.Valid(); it.Next() {
		i, err := strconv.Atoi(string(it.Key()))
		if err != nil {
			return err
		}
		if err := wholePack(fs, i); err != nil {
			return err
		}
	}
	return it.Error()
}

func wholePack(fs *FS, i int) error {
	f, err := fs.Open(packName(i))
	if err != nil {
		return err
	}
	defer f.Close()
	got := make([]byte, len(packText(i)))
	if _, err := f.ReadAt(got, 0); err != nil || string(got) != packText(i) {
		return fmt.Errorf("pack %d is damaged (%v)", i, err)
	}
	return nil
}
