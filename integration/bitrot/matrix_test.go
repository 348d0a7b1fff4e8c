package bitrot

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

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

// inShort is how many damages a normal run has time for.
const inShort = 150

// TestBitRot damages every class of bytes of every file in every way.
func TestBitRot(t *testing.T) {
	m := &matrix{t: t, seed: seedOf(t), table: map[string]map[kind]*tally{}}
	clean, killed, err := build(m.seed)
	if err != nil {
		t.Fatal(err)
	}
	classes, err := clean.classes()
	if err != nil {
		t.Fatal(err)
	}
	more, err := killed.classes()
	if err != nil {
		t.Fatal(err)
	}
	for class, list := range more {
		classes[class] = append(classes[class], list...)
	}
	cells := m.cells(classes, soak(t))
	if soak(t) == 1 {
		cells = cells[:min(len(cells), inShort)]
	}
	m.run(cells)
	t.Log("\n" + m.String())
}

// tally counts what became of the damages of one cell of the table.
type tally struct{ detected, repaired, careless, failed int }

type matrix struct {
	t    *testing.T
	seed uint64

	mu       sync.Mutex
	table    map[string]map[kind]*tally
	failures int
}

// cells draws n damages of each class and kind.
func (m *matrix) cells(classes map[string][]place, n int) (list []*cell) {
	for _, class := range slices.Sorted(maps.Keys(classes)) {
		places, kinds := classes[class], unitKinds
		if strings.HasSuffix(class, " file") {
			kinds = fileKinds
		}
		rng := rand.New(rand.NewPCG(m.seed, uint64(len(class))<<8|uint64(class[0])))
		for _, k := range kinds {
			for got, tries := 0, 0; got < n && tries < 30*n; tries++ {
				if c := places[rng.IntN(len(places))].spoil(k, places, rng); c != nil {
					list = append(list, c)
					got++
				}
			}
		}
	}
	rand.New(rand.NewPCG(m.seed, 3)).Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

const workers = 2

func (m *matrix) run(cells []*cell) {
	queue := make(chan *cell)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for c := range queue {
				m.judge(c)
			}
		})
	}
	for _, c := range cells {
		queue <- c
	}
	close(queue)
	wg.Wait()
}

const (
	patience = time.Minute
	// appetite is far above what all workers allocate in the time of one damage,
	// and below what a length taken from damaged bytes would ask for.
	appetite = 2 << 30
)

// allocated is how many bytes the process has allocated so far.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

func (m *matrix) judge(c *cell) {
	hangs := time.AfterFunc(patience, func() { panic("hangs: " + c.String()) })
	before := allocated()
	t, problem := try(c)
	hangs.Stop()
	if n := allocated() - before; problem == nil && n > appetite {
		problem = fmt.Errorf("%d MiB were allocated", n>>20)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.table[c.class] == nil {
		m.table[c.class] = map[kind]*tally{}
	}
	n := m.table[c.class][c.kind]
	if n == nil {
		n = &tally{}
		m.table[c.class][c.kind] = n
	}
	switch {
	case problem == nil && len(t.noticed) == 0 && dontCare(c) == "":
		problem = fmt.Errorf("nobody noticed")
		fallthrough
	case problem != nil:
		n.failed++
		if m.failures++; m.failures <= 25 {
			m.t.Errorf("seed %d: %v: %v\n\tnoticed: %s", m.seed, c, problem, strings.Join(t.noticed[:min(5, len(t.noticed))], "\n\t\t"))
		}
	case len(t.noticed) == 0:
		n.careless++
	case len(t.lost) > 0:
		n.detected++
	default:
		n.repaired++
	}
}

// String is the table: detected / repaired / don't care.
func (m *matrix) String() string {
	var s strings.Builder
	var sum tally
	fmt.Fprintf(&s, "%-28s", "detected/repaired/don't care")
	all := append(slices.Clone(unitKinds), garbage, stale, remove)
	for _, k := range all {
		fmt.Fprintf(&s, "%12s", k)
	}
	for _, class := range slices.Sorted(maps.Keys(m.table)) {
		fmt.Fprintf(&s, "\n%-28s", class)
		for _, k := range all {
			n := m.table[class][k]
			if n == nil {
				fmt.Fprintf(&s, "%12s", "")
				continue
			}
			text := fmt.Sprintf("%d/%d/%d", n.detected, n.repaired, n.careless)
			if n.failed > 0 {
				text += fmt.Sprintf(" F%d", n.failed)
			}
			fmt.Fprintf(&s, "%12s", text)
			sum.detected, sum.repaired, sum.careless, sum.failed = sum.detected+n.detected, sum.repaired+n.repaired, sum.careless+n.careless, sum.failed+n.failed
		}
	}
	fmt.Fprintf(&s, "\n%d detected, %d repaired, %d don't care, %d failed", sum.detected, sum.repaired, sum.careless, sum.failed)
	return s.String()
}
