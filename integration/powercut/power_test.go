package powercut

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
)

var vms = []string{"alpha", "beta", "gamma"}

// seedOf is STRONGROOM_SEED, or one of its own for each run; it is printed.
func seedOf(t testing.TB) uint64 {
	seed := uint64(rand.Uint32())
	if s := os.Getenv("STRONGROOM_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("repeat with STRONGROOM_SEED=%d", seed)
	return seed
}

// soak is how many times longer than usual the tests run.
func soak(t testing.TB) int {
	s := os.Getenv("STRONGROOM_SOAK")
	if s == "" {
		return 1
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// steps is n, or fewer under the race detector.
func steps(n int) int {
	if underRace {
		return n / 5
	}
	return n
}

// save keeps a state that failed, if STRONGROOM_KEEP says where.
func save(fs *crashfs.FS, seed uint64) {
	if dir := os.Getenv("STRONGROOM_KEEP"); dir != "" {
		to := filepath.Join(dir, fmt.Sprintf("state-%d", seed))
		if _, err := vfs.Clone(fs, vfs.Default, "/data", to); err != nil {
			fmt.Fprintln(os.Stderr, "save failed state:", err)
		}
	}
}

// TestPowerCut cuts a run of one VM after the other, so that a seed repeats it
// as exactly as the databases' own goroutines allow.
func TestPowerCut(t *testing.T) {
	seed := seedOf(t)
	for round := range soak(t) {
		r := newRun(t, seed+uint64(round)<<32, 5)
		drivers := r.drivers()
		for range steps(200) {
			if err := drivers[r.rng.IntN(len(drivers))].step(); err != nil {
				t.Fatal(err)
			}
		}
		r.finish()
	}
}

// TestPowerCutConcurrent lets the VMs write at the same time.
func TestPowerCutConcurrent(t *testing.T) {
	seed := seedOf(t)
	for round := range soak(t) {
		r := newRun(t, seed+uint64(round)<<32, 7)
		var wg sync.WaitGroup
		for _, d := range r.drivers() {
			wg.Go(func() {
				for range steps(80) {
					if err := d.step(); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		r.finish()
	}
}

// run is an engine at work with cuts taken at every k-th operation and checked
// by workers beside it.
type run struct {
	t    *testing.T
	seed uint64
	rng  *rand.Rand
	e    *engine
	m    *model
	cuts chan *cut
	wg   sync.WaitGroup

	mu     sync.Mutex
	states int
	failed int
}

const workers = 2

func newRun(t *testing.T, seed uint64, every uint64) *run {
	r := &run{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0)), m: newModel(), cuts: make(chan *cut, workers)}
	fs := crashfs.New()
	for range workers {
		r.wg.Go(r.work)
	}
	fs.Observe(func(at *crashfs.Instant) {
		// The metadata log is where a commit happens: each of its operations counts.
		if at.Op.Seq%every == 0 || strings.HasSuffix(at.Op.Path, ".mlog") {
			r.cuts <- cutAt(at, r.m, 1, false, seed^at.Op.Seq<<20)
		}
	})
	var err error
	if r.e, err = start(fs, bootID(1), mustLive); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *run) drivers() (list []*driver) {
	for i, vm := range vms {
		list = append(list, &driver{e: r.e, m: r.m, rng: rand.New(rand.NewPCG(r.seed, uint64(10+i))), vm: vm})
	}
	return list
}

func (r *run) work() {
	for c := range r.cuts {
		n, err := c.survive(2)
		r.mu.Lock()
		r.states += n
		if err != nil {
			if r.failed++; r.failed <= 10 {
				r.t.Errorf("seed %d: %v", r.seed, err)
			}
		}
		r.mu.Unlock()
	}
}

// finish closes the engine, under cuts still, and waits for the checks.
func (r *run) finish() {
	err := r.e.stop()
	close(r.cuts)
	r.wg.Wait()
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Logf("%d operations, %d states, %d failed; %d points, %d sessions", r.e.fs.Ops(), r.states, r.failed, len(r.m.all()), len(r.m.sessions))
	if r.states < steps(100) {
		r.t.Errorf("only %d states were looked at", r.states)
	}
}
