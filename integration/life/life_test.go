package life

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/maintenance"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	historyLength = 500 // operations
	inShort       = 3   // histories of each set of options in a usual run
)

// setups are the sets of options histories run under.
var setups = []setup{
	{name: "plain", packSize: dedup.MinPackSize, deadRatio: 0.25, logFileBytes: 4 << 10,
		settings: maintenance.Settings{TrashKeep: 7 * time.Hour}},
	{name: "no trash, everything compacted", packSize: dedup.MinPackSize, deadRatio: 0.01, logFileBytes: 1 << 20},
	{name: "large packs, short chains", packSize: 4 << 20, deadRatio: 0.5, logFileBytes: 16 << 10,
		settings: maintenance.Settings{TrashKeep: time.Hour, ChainLimit: 5, FullAfter: 9}},
	{name: "strict chains", packSize: 1 << 20, deadRatio: 0.1, logFileBytes: 4 << 10,
		settings: maintenance.Settings{TrashKeep: 30 * time.Hour, StrictChains: true, FullAfter: 4}},
	{name: "together", packSize: dedup.MinPackSize, deadRatio: 0.2, logFileBytes: 8 << 10, concurrent: true,
		settings: maintenance.Settings{TrashKeep: 2 * time.Hour}},
	{name: "together, large packs", packSize: 2 << 20, deadRatio: 0.05, logFileBytes: 8 << 10, concurrent: true},
}

// seedOf is STRONGROOM_SEED, or one of its own for each run; it is printed.
func seedOf(t *testing.T) uint64 {
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

// soak is how many times as many histories as usual there are.
func soak(t *testing.T) int {
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

func TestLife(t *testing.T) {
	seed, rounds := seedOf(t), inShort*soak(t)
	for i := range setups {
		s := &setups[i]
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			for round := range rounds {
				live(t, s, seed+uint64(round)<<32, historyLength)
				if t.Failed() {
					return
				}
			}
		})
	}
}
