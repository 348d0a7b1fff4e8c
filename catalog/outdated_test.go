package catalog

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
)

// outdate makes a catalog's database one of version 1 that holds the log up to
// seq, with values as version 1 had them.
func outdate(t *testing.T, o Options, seq uint64) {
	t.Helper()
	db, err := pebble.Open(o.Dir, &pebble.Options{FS: o.FS, FormatMajorVersion: pebbleFormat, Logger: quiet{}})
	mustDo(t, err)
	b := db.NewBatch()
	w := binary.AppendUvarint(nil, seq)
	w = binary.AppendVarint(binary.AppendUvarint(w, 4), 1e12)
	mustDo(t, b.DeleteRange([]byte{0}, []byte{0xff}, nil),
		b.Set([]byte{keyFormat}, append([]byte{1}, o.StoreID[:]...), nil), b.Set([]byte{keyWatermark}, w, nil),
		b.Set(pointKey("gone", testClock()()), []byte("old"), nil), b.Set(vmKey("gone"), []byte("old"), nil), b.Set([]byte("zzz"), []byte("old"), nil),
		b.Commit(pebble.Sync), db.Close())
}

// TestOutdatedDatabase is made anew from the log, whatever it held, also when
// that is cut off anywhere.
func TestOutdatedDatabase(t *testing.T) {
	fs := crashfs.New()
	o := testOptions(fs)
	c := mustOpen(t, o)
	chain(t, c, 1, 4)
	mustDo(t, c.Remove(testID(1)), c.Hold(testID(2), "why"), c.Forget(testID(1)))
	seq, want := c.commit.app.mark.seq, dump(t, c)
	mustClose(t, c)
	outdate(t, o, seq-3)

	var states []*crashfs.FS
	dice := rand.New(rand.NewPCG(1, 1))
	profiles := crashfs.Profiles()
	fs.Observe(func(at *crashfs.Instant) {
		states = append(states, at.Crash(dice, profiles[dice.IntN(len(profiles))]), at.Kill())
	})
	c = mustOpen(t, o)
	fs.Observe(func(*crashfs.Instant) {})
	if is := dump(t, c); is != want {
		t.Errorf("made anew\n%s\nwant\n%s", is, want)
	}
	mustClose(t, c)
	for i, s := range states {
		c := mustOpen(t, testOptions(s))
		if is := dump(t, c); is != want {
			t.Fatalf("cut off after operation %d, then opened:\n%s\nwant\n%s", i/2, is, want)
		}
		mustClose(t, c)
	}
	t.Logf("%d crashes", len(states))
}

// TestOutdatedKnewMore: records the old database held are missing in the log;
// nothing is changed.
func TestOutdatedKnewMore(t *testing.T) {
	fs := crashfs.New()
	o := testOptions(fs)
	c := mustOpen(t, o)
	chain(t, c, 1, 2)
	seq := c.commit.app.mark.seq
	mustClose(t, c)
	outdate(t, o, seq+1)
	checkRefused(t, fs, testOptions(fs), ErrCorrupt)
	mustDo(t, o.FS.Remove("/data/tier0/meta/"+logName))
	if c, err := Open(testOptions(fs)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("without a log: %v, %v", c, err)
	}
}
