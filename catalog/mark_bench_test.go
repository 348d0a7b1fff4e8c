package catalog

import (
	"context"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/strongroom-backup/strongroom/dedup"
)

// benchSlots are the slots of all packs of markedCatalog.
const (
	benchPacks    = 1 << 17
	benchPerPack  = 8192
	benchChunks   = 1_000_000
	benchImages   = 100
	benchRuns     = 8
	benchRunSlots = dedup.ChunkBlocks / benchRuns
)

// markedCatalog holds a million chunk records, 64 TiB, each of runs anywhere in
// the packs, and images whose chunks are in no order.
func markedCatalog(b *testing.B) *Catalog {
	c := benchCatalog(b)
	rng := rand.New(rand.NewPCG(1, 1))
	for made, point := 0, 0; made < benchChunks; point++ {
		refs := make([]ChunkRef, benchChunks/10)
		for i := range refs {
			runs := make([]Run, benchRuns)
			for j := range runs {
				runs[j] = Run{uint16(j * benchRunSlots), benchRunSlots,
					dedup.MakeAddr(1+rng.Uint64N(benchPacks-1), uint16(rng.IntN(benchPerPack-benchRunSlots)))}
			}
			refs[i].New = testChunk(uint64(made), runs...)
			made++
		}
		mustCommit(b, c, onePoint(point, "vm", refs...))
	}
	for i := range benchImages {
		refs := make([]ChunkRef, benchChunks/benchImages)
		for j := range refs {
			refs[j].No = ChunkNo(1 + rng.IntN(benchChunks))
		}
		mustCommit(b, c, onePoint(1000+i, fmt.Sprintf("clone%d", i), refs...))
	}
	if err := c.db.Flush(); err != nil {
		b.Fatal(err)
	}
	return c
}

// BenchmarkMark is a mark of a million chunk records into a bit per slot.
func BenchmarkMark(b *testing.B) {
	c := markedCatalog(b)
	marks := make([]atomic.Uint64, benchPacks*benchPerPack/64)
	for b.Loop() {
		stats, err := c.Mark(context.Background(), func(runs []Run) {
			for _, r := range runs {
				setBits(marks, r.Addr.Pack()*benchPerPack+uint64(r.Addr.Slot()), uint64(r.Count))
			}
		})
		if err != nil || stats.Chunks != benchChunks {
			b.Fatalf("%+v, %v", stats, err)
		}
	}
	b.StopTimer()
	set := 0
	for i := range marks {
		set += bits.OnesCount64(marks[i].Load())
	}
	b.ReportMetric(float64(set), "slots")
}

func setBits(marks []atomic.Uint64, at, n uint64) {
	for end := at + n; at < end; {
		k := min(64-at%64, end-at)
		marks[at/64].Or((^uint64(0) >> (64 - k)) << (at % 64))
		at += k
	}
}

// BenchmarkAffected asks which images a damaged pack is in.
func BenchmarkAffected(b *testing.B) {
	c := markedCatalog(b)
	for b.Loop() {
		found, err := c.Affected(context.Background(), func(a dedup.Addr, n int) bool { return a.Pack() == 77 })
		if err != nil || len(found) == 0 {
			b.Fatalf("%d images, %v", len(found), err)
		}
	}
}

// BenchmarkForget forgets a 16 TiB full backup nobody else has anything of.
func BenchmarkForget(b *testing.B) {
	c := benchCatalog(b)
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		mustCommit(b, c, onePoint(i, "vm", freshImage(uint64(i+1), 256<<10)...))
		if err := c.Remove(testID(i)); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := c.Forget(testID(i)); err != nil {
			b.Fatal(err)
		}
	}
}
