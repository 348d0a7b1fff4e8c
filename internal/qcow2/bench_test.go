package qcow2

import (
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"
)

// sparseTiB is a view of 1 TiB: a cluster in 64 is data, in pieces of 1 to 16.
func sparseTiB(b *testing.B) *View {
	rng := rand.New(rand.NewPCG(1, 1))
	var list []piece
	for off := int64(0); off < 1<<40; {
		n := (1 + rng.Int64N(16)) * ClusterSize
		list = append(list, piece{off, min(n, 1<<40-off), Data})
		off += n * (32 + rng.Int64N(64))
	}
	return newView(b, 1<<40, "", &zeros{}, list)
}

// BenchmarkMap checks and maps a 1 TiB image with 16 GiB of data.
func BenchmarkMap(b *testing.B) {
	v := sparseTiB(b)
	for b.Loop() {
		q, err := Open(v, v.Size())
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		if err := q.Map(func(Mapping) error { n++; return nil }); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(n), "mappings/op")
	}
}

// nothing is a source that leaves the buffer as it is.
type nothing struct{}

func (nothing) ReadAt(p []byte, off int64) (int, error) { return len(p), nil }

// BenchmarkViewRead reads a virtual file from its beginning, again and again, in
// pieces as sshfs and cp ask for.
func BenchmarkViewRead(b *testing.B) {
	for _, x := range []struct {
		name string
		list func(*rand.Rand) []piece
	}{
		{"dense", func(*rand.Rand) []piece { return []piece{{0, 64 << 30, Data}} }},
		{"scattered", func(rng *rand.Rand) (list []piece) {
			for off := int64(0); off < 64<<30; off += ClusterSize * (1 + rng.Int64N(3)) {
				list = append(list, piece{off, ClusterSize, Data})
			}
			return list
		}},
	} {
		v := newView(b, 64<<30, "", nothing{}, x.list(rand.New(rand.NewPCG(1, 1))))
		for _, size := range []int{32 << 10, 256 << 10} {
			b.Run(fmt.Sprintf("%s/%dK", x.name, size>>10), func(b *testing.B) { readThrough(b, v, size, v.Size()) })
		}
		b.Run(x.name+"/metadata", func(b *testing.B) { readThrough(b, v, 256<<10, v.l.first*ClusterSize) })
	}
}

func readThrough(b *testing.B, v *View, size int, end int64) {
	p := make([]byte, size)
	b.SetBytes(int64(size))
	off := int64(0)
	for b.Loop() {
		if off+int64(size) > end {
			off = 0
		}
		if _, err := v.ReadAt(p, off); err != nil && err != io.EOF {
			b.Fatal(err)
		}
		off += int64(size)
	}
}

// BenchmarkNewView lays out a dense disk of 1 TiB, told in 64 KiB blocks; a
// quarter of the blocks of the second one is missing.
func BenchmarkNewView(b *testing.B) {
	for _, x := range []struct {
		name string
		skip int64
	}{{"dense", 1 << 60}, {"gaps", 4}} {
		b.Run(x.name, func(b *testing.B) {
			var v *View
			before := live()
			for b.Loop() {
				v, _ = NewView(ViewOptions{Size: 1 << 40, Source: nothing{}, Extents: func(yield func(off, n int64, kind Kind) bool) error {
					for i := int64(0); i < 1<<40/ClusterSize; i++ {
						if i%x.skip != 1 && !yield(i*ClusterSize, ClusterSize, Data) {
							break
						}
					}
					return nil
				}})
			}
			b.ReportMetric(float64(live()-before), "live-bytes")
			runtime.KeepAlive(v)
		})
	}
}

func live() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
