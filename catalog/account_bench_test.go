package catalog

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/strongroom-backup/strongroom/dedup"
)

// benchStore says that every block takes 30000 bytes.
func benchStore(addrs []dedup.Addr, out []uint32) error {
	for i := range out[:len(addrs)] {
		out[i] = 30_000
	}
	return nil
}

// benchChain is a full backup and incrementals in each of which so many chunks
// have eight new blocks each.
func benchChain(b *testing.B, points, chunks, changed int) *Catalog {
	c := benchCatalog(b)
	c.o.StoredBytes = benchStore
	c.o.PackVersion = func(uint64) uint64 { return 1 }
	mustCommit(b, c, onePoint(0, "vm", freshImage(1, chunks)...))
	list, err := c.ChunkList(testID(0), "vda")
	if err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	next := dedup.MakeAddr(1<<30, 0)
	seed := uint64(1 << 50)
	for i := 1; i < points; i++ {
		n := onePoint(i, "vm", make([]ChunkRef, chunks)...)
		n.Images[0].Mode, n.Images[0].Parent = Incremental, testID(i-1)
		for j, no := range list {
			n.Images[0].Chunks[j].No = no
		}
		for _, j := range rng.Perm(chunks)[:changed] {
			k, err := c.Chunk(list[j])
			if err != nil {
				b.Fatal(err)
			}
			var blocks [dedup.ChunkBlocks]dedup.Addr
			for _, r := range k.Runs {
				for s := range r.Count {
					blocks[r.Start+s] = r.Addr + dedup.Addr(s)
				}
			}
			for range 8 {
				blocks[rng.IntN(len(blocks))] = next
				if next++; next.Slot() == 2000 {
					next = dedup.MakeAddr(next.Pack()+1, 0)
				}
			}
			seed++
			n.Images[0].Chunks[j].New = testChunk(seed, runsOf(blocks[:])...)
		}
		mustCommit(b, c, n)
		if list, err = c.ChunkList(testID(i), "vda"); err != nil {
			b.Fatal(err)
		}
	}
	if err := c.accounts.apply(); err != nil {
		b.Fatal(err)
	}
	return c
}

// runsOf makes the runs of a chunk's blocks.
func runsOf(blocks []dedup.Addr) (runs []Run) {
	for i, a := range blocks {
		if k := len(runs) - 1; k >= 0 && a != 0 && runs[k].Addr+dedup.Addr(runs[k].Count) == a && int(runs[k].Start+runs[k].Count) == i && a.Slot() != 0 {
			runs[k].Count++
		} else if a != 0 {
			runs = append(runs, Run{uint16(i), 1, a})
		}
	}
	return runs
}

// forgetAnswers has the next question worked on.
func (c *Catalog) forgetAnswers() {
	c.accounts.asking.Lock()
	c.accounts.asking.stamp = ""
	c.accounts.asking.Unlock()
}

// BenchmarkUsage is of a 1 TiB disk with 128 points.
func BenchmarkUsage(b *testing.B) {
	for _, changed := range []int{100, 1000} {
		c := benchChain(b, 128, 16<<10, changed)
		for name, ask := range map[string]func() error{
			"full":        func() error { _, err := c.Usage(testID(0)); return err },
			"incremental": func() error { _, err := c.Usage(testID(127)); return err },
			"chain":       func() error { _, err := c.ChainUsage("vm", "vda"); return err },
			"disk":        func() error { _, err := c.DiskUsage("vm", "vda"); return err },
			"store":       func() error { _, err := c.StoreUsage(); return err },
		} {
			b.Run(fmt.Sprintf("%s/changed%d", name, changed), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					c.forgetAnswers()
					if err := ask(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkUsageLong is of a 128 GiB disk with a thousand points.
func BenchmarkUsageLong(b *testing.B) {
	c := benchChain(b, 1000, 2<<10, 100)
	for b.Loop() {
		c.forgetAnswers()
		if _, err := c.ChainUsage("vm", "vda"); err != nil {
			b.Fatal(err)
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapInuse)/(1<<20), "MiB-heap")
	}
}
