package volume

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strongroom-backup/strongroom/dedup"
)

// benchAged makes two images of one content: the newest of 100 incrementals that
// each rewrote one block in a hundred, and one that a store of its own got as a
// full backup.
func benchAged(b *testing.B, size int) (old, fresh *Image) {
	source := realBytes(b, size)
	data := slices.Clone(source)
	m := benchManager(b)
	id, d := benchDisk(b, m, "full", int64(size))
	writeAll(b, d, data)
	r, err := m.Commit(id)
	rng := rand.New(rand.NewPCG(10, 10))
	for range 100 {
		id, d := benchDisk(b, m, "incremental", int64(size))
		for at := range int64(size / dedup.BlockSize) {
			if rng.IntN(100) != 0 {
				continue
			}
			p := data[at*dedup.BlockSize:][:dedup.BlockSize]
			copy(p, source[rng.IntN(size-dedup.BlockSize):])
			if _, err := d.WriteAt(p, at*dedup.BlockSize); err != nil {
				b.Fatal(err)
			}
		}
		if r, err = m.Commit(id); err != nil {
			b.Fatal(err)
		}
	}
	open := func(m *Manager, r Receipt) *Image {
		x, err := m.OpenImage(r.Point, "vda")
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { x.Close() })
		return x
	}
	old = open(m, r)
	m = benchManager(b)
	id, d = benchDisk(b, m, "full", int64(size))
	writeAll(b, d, data)
	if r, err = m.Commit(id); err != nil {
		b.Fatal(err)
	}
	return old, open(m, r)
}

// BenchmarkReadAged is what a long history costs a reader: one at a time, as a
// naive client, and several at once in neighbouring places.
func BenchmarkReadAged(b *testing.B) {
	old, fresh := benchAged(b, benchBytes)
	for _, c := range []struct {
		name  string
		image *Image
	}{{"old", old}, {"fresh", fresh}} {
		for _, size := range []int64{256 << 10, 1 << 20, 2 << 20} {
			for _, readers := range []int64{1, 2, 8} {
				b.Run(c.name+"/"+strconv.FormatInt(size>>10, 10)+"K/"+strconv.FormatInt(readers, 10), func(b *testing.B) {
					b.SetBytes(benchBytes)
					before, n := cpuTime(b), 0
					for b.Loop() {
						readThrough(b, c.image, size, readers)
						n++
					}
					b.ReportMetric(float64((cpuTime(b)-before).Milliseconds())/float64(n), "CPU-ms/op")
				})
			}
		}
	}
}

// readThrough reads an image once, in order, with so many requests in flight.
func readThrough(b *testing.B, x *Image, size, readers int64) {
	var next atomic.Int64
	done := make(chan error, readers)
	for range readers {
		go func() {
			buf := make([]byte, size)
			for {
				off := next.Add(size) - size
				if off >= x.Size() {
					done <- nil
					return
				}
				if _, err := x.ReadAt(buf[:min(size, x.Size()-off)], off); err != nil {
					done <- err
					return
				}
			}
		}()
	}
	for range readers {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

// cpuTime is what this process has used: on a machine with other work it tells
// more than the clock.
func cpuTime(b *testing.B) time.Duration {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
