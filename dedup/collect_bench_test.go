package dedup

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"
)

// BenchmarkMark marks what a million chunk records of 1024 blocks name, half of
// them inherited from a record before, as a chain's are. Each record's blocks
// lie in so many runs, most near each other, some anywhere. One iteration is
// the whole of it.
func BenchmarkMark(b *testing.B) {
	const records, packs, slots = 1_000_000, 300_000, 2600
	for _, runs := range []int{1, 4, 32} {
		b.Run(fmt.Sprintf("%druns", runs), func(b *testing.B) {
			s := &Store{packs: newPackSet()}
			c := &Collection{s: s, marks: newMarks()}
			for p := range uint64(packs) {
				c.marks.add(p+1, &packRecord{slots: slots, next: slots, bytes: 64 << 20}, false)
			}
			c.marks.begin()
			b.ResetTimer()
			start := cpuTime(b)
			for b.Loop() {
				var wg sync.WaitGroup
				cores := runtime.GOMAXPROCS(0)
				for k := range cores {
					wg.Go(func() { markRecords(c, rand.New(rand.NewPCG(uint64(k), 1)), records/cores, runs, packs, slots) })
				}
				wg.Wait()
			}
			b.ReportMetric(float64(records)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
			b.ReportMetric((cpuTime(b)-start).Seconds()/float64(b.N), "core-s/op")
			if t := c.Tally(); t.LiveSlots == 0 || t.UnknownMarks != 0 {
				b.Fatalf("%+v", t)
			}
		})
	}
}

func markRecords(c *Collection, rng *rand.Rand, records, runs, packs, slots int) {
	pack := rng.IntN(packs)
	for range records {
		for r := range runs {
			if r%8 == 7 { // an old block
				pack = rng.IntN(packs)
			}
			n := ChunkBlocks / runs
			c.Mark(MakeAddr(uint64(pack+1), uint16(rng.IntN(slots-n))), n)
		}
		pack = (pack + rng.IntN(3)) % packs
	}
}

// BenchmarkTally sums up the marks of 100 TB of unique data.
func BenchmarkTally(b *testing.B) {
	c := &Collection{s: &Store{packs: newPackSet()}, marks: newMarks()}
	for p := range uint64(1_500_000) {
		c.marks.add(p+1, &packRecord{slots: 1024, next: 1024, bytes: 64 << 20}, false)
	}
	c.marks.begin()
	for b.Loop() {
		c.Tally()
	}
}

// BenchmarkCompact compacts packs of real files: half the blocks are dead, in
// runs (whole frames go) or every other one (all is compressed again). The
// bytes are those of the old packs.
func BenchmarkCompact(b *testing.B) {
	for name, dead := range map[string]func(i int) bool{
		"runs":       func(i int) bool { return i/64%2 == 0 },
		"everyOther": func(i int) bool { return i%2 == 0 },
	} {
		b.Run(name, func(b *testing.B) {
			var bytes, moved int64
			var cpu time.Duration
			for b.Loop() {
				b.StopTimer()
				s := benchStore(b, MaxPackSize)
				w := s.NewWriter()
				addrs := make([]Addr, benchBytes/BlockSize)
				putAll(b, w, realFiles(), 2<<20, nil, addrs)
				w.Close()
				sealAll(b, s)
				c, err := s.BeginCollection()
				if err != nil {
					b.Fatal(err)
				}
				for i, a := range addrs {
					if a != 0 && !dead(int(a.Slot())) {
						c.Mark(addrs[i], 1)
					}
				}
				bytes += s.Stats().PackBytes
				b.StartTimer()
				start := cpuTime(b)
				p, err := c.Sweep(context.Background(), SweepOptions{})
				if err != nil {
					b.Fatal(err)
				}
				cpu += cpuTime(b) - start
				moved += p.MovedBytes
				c.Close()
			}
			b.ReportMetric(float64(bytes)/1e6/b.Elapsed().Seconds(), "MB/s")
			b.ReportMetric(float64(moved)/1e6/b.Elapsed().Seconds(), "moved-MB/s")
			b.ReportMetric(float64(bytes)/1e6/cpu.Seconds(), "MB/s/core")
		})
	}
}

// BenchmarkVerify reads packs of real files.
func BenchmarkVerify(b *testing.B) {
	s := benchStore(b, MaxPackSize)
	w := s.NewWriter()
	addrs := make([]Addr, benchBytes/BlockSize)
	putAll(b, w, realFiles(), 2<<20, nil, addrs)
	w.Close()
	sealAll(b, s)
	b.SetBytes(s.Stats().PackBytes)
	b.ResetTimer()
	start := cpuTime(b)
	for b.Loop() {
		if err := s.Packs(func(p PackInfo) bool {
			r, err := s.VerifyPack(context.Background(), p.ID.Pack, nil)
			if err != nil || !p.Open && !r.Whole {
				b.Fatalf("%+v, %v", r, err)
			}
			return true
		}); err != nil {
			b.Fatal(err)
		}
	}
	reportCore(b, s.Stats().PackBytes*int64(b.N), start)
}
