package volume

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// benchClone is a clone of a point of real bytes, of so many bytes.
func benchClone(b *testing.B, size int64) (*Manager, *Disk) {
	b.Helper()
	m := benchManager(b)
	data := realBytes(b, int(min(size, benchBytes)))
	id, d := benchDisk(b, m, "full", size)
	for off := int64(0); off < size; off += int64(len(data)) {
		writeAll(b, shifted{d, off}, data)
	}
	if _, err := m.Commit(id); err != nil {
		b.Fatal(err)
	}
	st, err := m.CreateClone(CloneRequest{Ref: "vm"})
	if err != nil {
		b.Fatal(err)
	}
	c, err := m.OpenExport(st.Disks[0].Token)
	if err != nil {
		b.Fatal(err)
	}
	return m, c
}

// shifted is a disk from some byte on.
type shifted struct {
	d   *Disk
	off int64
}

func (s shifted) WriteAt(p []byte, off int64) (int, error) { return s.d.WriteAt(p, s.off+off) }

// guest does n requests, sixteen at a time.
func guest(b *testing.B, n int, f func(rng *rand.Rand) error) {
	b.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			for next.Add(1) <= int64(n) {
				if err := f(rng); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// BenchmarkCloneWrite is what a guest's small writes cost on a clone of 512 MiB,
// in the long run: raw bytes are merged, and the journal is written anew.
func BenchmarkCloneWrite(b *testing.B) {
	for _, n := range []int{512, 4096, 16384, 65536} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m, d := benchClone(b, benchBytes)
			data := realBytes(b, 64<<20)
			b.SetBytes(int64(n))
			b.ResetTimer()
			guest(b, b.N, func(rng *rand.Rand) error {
				at := rng.Int64N(int64(len(data)-n)/512) * 512
				_, err := d.WriteAt(data[at:at+int64(n)], rng.Int64N(d.Size()/int64(n))*int64(n))
				return err
			})
			st := m.Stats()
			b.ReportMetric(float64(st.Folds)/float64(b.N), "folds/op")
			b.ReportMetric(float64(st.Rewrites), "rewrites")
			b.ReportMetric(float64(st.CloneJournalBytes)/(1<<20), "journal-MiB")
			b.ReportMetric(float64(m.Clones()[0].Disks[0].StoredBytes)/float64(b.N), "stored-B/op")
		})
	}
}

// BenchmarkCloneRead reads 4 KiB at random from a clone that was written to in
// part.
func BenchmarkCloneRead(b *testing.B) {
	for _, written := range []string{"nothing", "blocks", "parts"} {
		b.Run(written, func(b *testing.B) {
			_, d := benchClone(b, benchBytes)
			data := realBytes(b, 64<<20)
			n := map[string]int{"nothing": 0, "blocks": 65536, "parts": 4096}[written]
			for off := int64(0); n > 0 && off < d.Size(); off += 2 * 65536 {
				if _, err := d.WriteAt(data[off%(32<<20):][:n], off); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(4096)
			b.ResetTimer()
			guest(b, b.N, func(rng *rand.Rand) error {
				var buf [4096]byte
				_, err := d.ReadAt(buf[:], rng.Int64N(d.Size()/4096)*4096)
				return err
			})
		})
	}
}

// BenchmarkCloneCommits is a database's small commits: a write, and a flush.
func BenchmarkCloneCommits(b *testing.B) {
	_, d := benchClone(b, 64<<20)
	data := realBytes(b, 64<<20)
	b.ResetTimer()
	rng := rand.New(rand.NewPCG(1, 1))
	for b.Loop() {
		at := rng.Int64N(int64(len(data) / 4096))
		if _, err := d.WriteAt(data[at*4096:(at+1)*4096], rng.Int64N(d.Size()/4096)*4096); err != nil {
			b.Fatal(err)
		}
		if err := d.Flush(); err != nil {
			b.Fatal(err)
		}
	}
}
