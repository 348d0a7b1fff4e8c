package catalog

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
)

// TestAccountsCrash applies the queue in small parts, and makes the accounts
// anew now and then, on a file system that crashes: what is found is counted
// once, whatever was done of it, and opening again changes nothing.
func TestAccountsCrash(t *testing.T) {
	n := 0
	for _, seed := range seeds(t, 2) {
		states, store := accountCrashes(t, seed, 4)
		for _, s := range states {
			checkAccountCrash(t, fmt.Sprintf("STRONGROOM_SEED=%d, %s after %v", seed, s.kind, s.op), s.fs, store, seed)
			n++
		}
	}
	t.Logf("%d crashes", n)
}

func accountCrashes(t *testing.T, seed, k uint64) (states []crashState, store *fakeStore) {
	fs := crashfs.New()
	dice := rand.New(rand.NewPCG(seed, 13))
	profiles := crashfs.Profiles()
	fs.Observe(func(at *crashfs.Instant) {
		if (at.Op.Seq+seed)%k != 0 {
			return
		}
		s := crashState{op: at.Op, kind: "kill"}
		if i := dice.IntN(len(profiles) + 2); i < len(profiles) {
			s.kind, s.fs = profiles[i].Name, at.Crash(dice, profiles[i])
		} else {
			s.fs = at.Kill()
		}
		states = append(states, s)
	})
	store = newFakeStore()
	rng := rand.New(rand.NewPCG(seed, 14))
	g := &accountant{rng: rng, store: store}
	o := accountOptions(store)
	o.FS, o.idle = fs, true
	for range 2 {
		c := mustOpen(t, o)
		narrow(c, rng)
		for range 25 {
			err := g.step(c)
			switch rng.IntN(6) {
			case 0, 1, 2:
				err = c.accounts.apply()
			case 3:
				_, err = c.RecountAccounts()
			}
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		mustClose(t, c)
	}
	fs.Observe(func(*crashfs.Instant) { t.Error("written to after Close") })
	return states, store
}

func checkAccountCrash(t *testing.T, what string, fs *crashfs.FS, store *fakeStore, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 15))
	o := accountOptions(store)
	o.FS, o.idle = fs, true
	var first string
	for _, why := range []string{"opened", "opened again", "rebuilt"} {
		c := mustOpen(t, o)
		narrow(c, rng)
		checkAccounts(t, what+", "+why, c, store, rng)
		if n := c.AccountStats().Recounts; n != 0 {
			t.Fatalf("%s, %s: %d recounts", what, why, n)
		}
		if now := dump(t, c); first == "" {
			first = now
		} else if now != first {
			t.Fatalf("%s, %s:\n%s\nat first\n%s", what, why, now, first)
		}
		mustClose(t, c)
		if why == "opened again" {
			if err := fs.RemoveAll(o.Dir); err != nil {
				t.Fatal(err)
			}
		}
	}
}
