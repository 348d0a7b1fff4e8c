package catalog

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"lukechampine.com/blake3"

	"github.com/strongroom-backup/strongroom/dedup"
)

// benchCatalog is on the real file system, with a hash as fast as the store's.
func benchCatalog(b *testing.B) *Catalog {
	dir := b.TempDir()
	o := testOptions(vfs.Default)
	o.Dir, o.MetaDir, o.Clock = dir+"/catalog", dir+"/meta", nil
	o.RootHash = func(size int64, chunks []dedup.Hash) dedup.Hash {
		h := blake3.New(32, nil)
		for i := range chunks {
			h.Write(chunks[i][:])
		}
		return dedup.Hash(h.Sum(nil))
	}
	c := mustOpen(b, o)
	b.Cleanup(func() { mustClose(b, c) })
	return c
}

// freshImage is n new chunks as a full backup writes them: two runs each.
func freshImage(seed uint64, n int) []ChunkRef {
	refs := make([]ChunkRef, n)
	for i := range refs {
		pack := seed<<24 + uint64(i) + 1
		refs[i].New = testChunk(seed<<40+uint64(i), Run{0, 700, dedup.MakeAddr(pack, 324)}, Run{700, 324, dedup.MakeAddr(pack+1, 0)})
	}
	return refs
}

// BenchmarkCommitFull is a full backup of 1 TiB, all new.
func BenchmarkCommitFull(b *testing.B) {
	c := benchCatalog(b)
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		n := onePoint(i, "vm", freshImage(uint64(i+1), 16<<10)...)
		b.StartTimer()
		mustCommit(b, c, n)
	}
}

// BenchmarkCommitIncremental is a 16 TiB disk of which 100 chunks changed.
func BenchmarkCommitIncremental(b *testing.B) {
	c := benchCatalog(b)
	const chunks = 256 << 10
	mustCommit(b, c, onePoint(0, "vm", freshImage(1, chunks)...))
	rng := rand.New(rand.NewPCG(1, 1))
	for i := 1; b.Loop(); i++ {
		b.StopTimer()
		list, err := c.ChunkList(testID(i-1), "vda")
		if err != nil {
			b.Fatal(err)
		}
		n := onePoint(i, "vm", make([]ChunkRef, chunks)...)
		for j, no := range list {
			n.Images[0].Chunks[j].No = no
		}
		for _, ref := range freshImage(uint64(i+1), 100) {
			n.Images[0].Chunks[rng.IntN(chunks)] = ref
		}
		b.StartTimer()
		mustCommit(b, c, n)
	}
}

// BenchmarkCommitSmall is a 10 GiB disk of which one chunk changed.
func BenchmarkCommitSmall(b *testing.B) {
	c := benchCatalog(b)
	n := onePoint(0, "vm", freshImage(1, 160)...)
	mustCommit(b, c, n)
	for i := 1; b.Loop(); i++ {
		n.ID = testID(i)
		n.Images[0].Chunks[i%160] = freshImage(uint64(i+1), 1)[0]
		mustCommit(b, c, n)
	}
}

func BenchmarkChunk(b *testing.B) {
	c := benchCatalog(b)
	const chunks = 256 << 10
	mustCommit(b, c, onePoint(0, "vm", freshImage(1, chunks)...))
	for _, span := range []int{1000, chunks} { // all cached; hardly any
		b.Run(fmt.Sprintf("of%d", span), func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
				for pb.Next() {
					if _, err := c.Chunk(ChunkNo(1 + rng.IntN(span))); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// BenchmarkOpen is a restart, and BenchmarkRebuild one without the database,
// with a 1 TiB full backup and 200 incrementals in the log.
func BenchmarkOpen(b *testing.B)    { benchOpen(b, false) }
func BenchmarkRebuild(b *testing.B) { benchOpen(b, true) }

func benchOpen(b *testing.B, rebuild bool) {
	dir := b.TempDir()
	o := testOptions(vfs.Default)
	o.Dir, o.MetaDir = dir+"/catalog", dir+"/meta"
	c := mustOpen(b, o)
	mustCommit(b, c, onePoint(0, "vm", freshImage(1, 16<<10)...))
	for i := 1; i <= 200; i++ {
		mustCommit(b, c, onePoint(i, "vm", freshImage(uint64(i+1), 100)...))
	}
	mustClose(b, c)
	for b.Loop() {
		if rebuild {
			if err := vfs.Default.RemoveAll(o.Dir); err != nil {
				b.Fatal(err)
			}
		}
		mustClose(b, mustOpen(b, o))
	}
}
