package inplace

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/ids"
)

// history is a VM's disk: its points, and what the guest has written since the
// newest.
type history struct {
	refs   []Ref
	points [][]byte
	dirty  *Dirty
	target *fileTarget
}

func newHistory(t *testing.T, rng *rand.Rand) *history {
	h := &history{dirty: newDirty()}
	now := newContent(rng, 2<<20)
	for i := range 4 {
		if rng.IntN(2) == 0 {
			now = resized(now, rng)
		}
		for range 1 + rng.IntN(4) {
			change(rng, now, 30_000)
		}
		h.points = append(h.points, bytes.Clone(now))
		h.refs = append(h.refs, Ref{VM: "web1", Disk: "vda", Point: ids.New(testTime.AddDate(0, 0, i))})
	}
	if rng.IntN(2) == 0 {
		now = resized(now, rng)
	}
	for range rng.IntN(4) {
		off, end := change(rng, now, 30_000)
		h.dirty.add(int64(off), int64(end-off))
	}
	h.target = open(t, writeFile(t, now)).(*fileTarget)
	return h
}

// resized is a disk that was made longer or shorter, by up to some blocks.
func resized(b []byte, rng *rand.Rand) []byte {
	size := 2<<20 + rng.IntN(400)*512
	return append(bytes.Clone(b[:min(len(b), size)]), make([]byte, max(0, size-len(b)))...)
}

// mapFor is the guest's map joined with our difference between the newest point
// and the chosen one, by blocks, as the server tells it: what lies beyond the end
// of the newest has changed.
func (h *history) mapFor(chosen int) *Dirty {
	d := &Dirty{Ranges: NewRanges(sizeMax), End: h.dirty.End}
	d.Ranges.Join(h.dirty.Ranges)
	base, want := h.points[len(h.points)-1], h.points[chosen]
	for off := 0; off < len(want); off += block {
		end := min(off+block, len(want))
		if end > len(base) || !bytes.Equal(base[off:end], want[off:end]) {
			d.Ranges.Add(int64(off), int64(end-off))
		}
	}
	return d
}

// Restores of random points, with a map or without, that break down at random
// writes, one after the other on one target: whichever succeeds makes the target
// the chosen point, though the map knows nothing of the others.
func TestInterruptedByOthers(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 11))
	broken, healed := 0, 0
	for range 24 {
		h := newHistory(t, rng)
		for done := false; !done; {
			chosen := rng.IntN(len(h.points))
			p := &point{content: h.points[chosen]}
			c := &counted{Target: h.target}
			if rng.IntN(4) > 0 {
				c.stopAt = 1 + int64(rng.IntN(5))
			}
			r := job(t, p, c)
			r.Ref, r.Resize, c.journal = h.refs[chosen], true, r.Journal
			if rng.IntN(3) > 0 {
				r.Dirty = h.mapFor(chosen)
			}
			res, err := r.Run(t.Context())
			switch {
			case errors.Is(err, errStopped):
				broken++
				if res.Mixed == nil || res.Mixed.Refs[len(res.Mixed.Refs)-1] != r.Ref {
					t.Fatalf("a mix of %+v, want of %v at the end", res.Mixed, r.Ref)
				}
			case err != nil:
				t.Fatal(err)
			default:
				done = true
				if res.Found != nil {
					healed++
				}
				mustHold(t, h.target, p.content)
			}
		}
		h.target.Close()
	}
	t.Logf("%d restores broke down, %d targets were mixed and healed", broken, healed)
}
