package integration

import (
	"context"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/internal/testdisk"
)

// TestKillInPlace kills the command that sets a disk back, at random moments and
// most of all once it writes. A disk that is neither what it was nor what it
// should be has a journal, and the same command ends what was begun.
func TestKillInPlace(t *testing.T) {
	b := newBackedUp(t)
	seed := environment(t, "STRONGROOM_SEED", time.Now().UnixNano()&0xffffffff)
	t.Logf("seed: STRONGROOM_SEED=%d", seed)
	k := &inPlaceKiller{backedUp: b, rng: rand.New(rand.NewPCG(uint64(seed), 7)),
		ref: "vm/vda@" + b.points[0], file: b.path("killed.raw"), journal: b.path(".killed.raw.strongroom-inplace")}
	was, wanted := b.want[1][0], b.want[0][0]
	info, err := os.Stat(wanted)
	b.must(err)
	blank := b.path("blank.raw")
	b.must(os.WriteFile(blank, nil, 0o600), os.Truncate(blank, info.Size()))
	cut, mixed := 0, 0
	for i := range 12 {
		before := was
		if i%3 > 0 {
			before = blank // all of it is to be written
		}
		b.must(testdisk.Copy(before, k.file))
		for range 2 {
			if k.killed() {
				cut++
			}
			if testdisk.Equal(before, k.file) != nil && testdisk.Equal(wanted, k.file) != nil {
				mixed++
				if !k.begun() {
					t.Fatal("a mixed disk has no journal")
				}
			}
		}
		b.inPlace(k.ref, k.file)
		b.must(testdisk.Equal(wanted, k.file))
		if _, err := os.Stat(k.journal); err == nil {
			t.Fatal("the journal stays")
		}
	}
	t.Logf("killed %d times, and the disk was mixed %d times", cut, mixed)
	if cut < 6 || mixed == 0 {
		t.Errorf("killed %d times, mixed %d times", cut, mixed)
	}
}

type inPlaceKiller struct {
	*backedUp
	rng                *rand.Rand
	ref, file, journal string
}

// begun reports whether the journal says that something is being written. Before,
// it is only locked.
func (k *inPlaceKiller) begun() bool {
	info, err := os.Stat(k.journal)
	return err == nil && info.Size() > 0
}

// killed starts the command and kills it soon after its journal is there, or
// tells that it ended before.
func (k *inPlaceKiller) killed() bool {
	ctx, kill := context.WithCancel(k.ctx)
	defer kill()
	done := make(chan error, 1)
	go func() {
		_, err := k.srv.Run(ctx, "restore", k.ref, "--in-place", k.file)
		done <- err
	}()
	delay := time.Duration(k.rng.Int64N(int64(50 * time.Millisecond)))
	for {
		select {
		case err := <-done:
			return err != nil
		case <-time.After(200 * time.Microsecond):
		}
		if k.begun() {
			time.Sleep(delay) // any moment will do
			kill()
			return <-done != nil
		}
	}
}
