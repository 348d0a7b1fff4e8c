package dedup

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/tier"
)

const benchBytes = 128 << 20

// cpuTime is what this process has used so far. Throughput per second of it is
// throughput per core, whatever else the machine is doing.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func reportCore(b *testing.B, bytes int64, since time.Duration) {
	b.ReportMetric(float64(bytes)/1e6/(cpuTime(b)-since).Seconds(), "MB/s/core")
}

// realFiles is the content of the Go distribution: source, binaries and
// archives in about the mix of a system disk.
var realFiles = sync.OnceValue(func() []byte {
	data := make([]byte, 0, benchBytes)
	var all []string
	filepath.WalkDir(runtime.GOROOT(), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			all = append(all, path)
		}
		return nil
	})
	rng := rand.New(rand.NewPCG(1, 1))
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, path := range all {
		b, _ := os.ReadFile(path)
		data = append(data, b[:min(len(b), benchBytes-len(data))]...)
		if pad := -len(data) & 4095; len(data)+pad <= benchBytes {
			data = append(data, make([]byte, pad)...)
		}
	}
	for i := len(data); i < benchBytes; i++ { // a small distribution: fill up
		data = append(data, data[i-len(data)/2])
	}
	return data[:benchBytes]
})

func randomBytes(n int) []byte {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(data)
	return data
}

func benchStore(b *testing.B, packSize int64) *Store {
	b.Helper()
	dir := b.TempDir()
	ts, err := tier.CreateDir(vfs.Default, filepath.Join(dir, "tier0"), [16]byte{1})
	if err != nil {
		b.Fatal(err)
	}
	s, err := Open(Options{FS: vfs.Default, Dir: filepath.Join(dir, "index"), Tier: ts, PackSize: packSize})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

// putAll stores data with requests of the given size, 16 in flight.
func putAll(b *testing.B, w *Writer, data []byte, request int, hints, out []Addr) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for {
				off := int(next.Add(int64(request))) - request
				if off >= len(data) {
					return
				}
				from, to := off/BlockSize, (off+request)/BlockSize
				var h []Addr
				if hints != nil {
					h = hints[from:to]
				}
				if _, err := w.Put(data[off:off+request], h, out[from:to]); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// distinct makes every block of data differ from those of other rounds.
func distinct(data []byte, round int) {
	for off := 0; off < len(data); off += BlockSize {
		data[off], data[off+1], data[off+2] = byte(round), byte(round>>8), 0xa5
	}
}

func benchPut(b *testing.B, data []byte, writer func(*Store) *Writer) {
	s := benchStore(b, MaxPackSize)
	w := writer(s)
	defer w.Close()
	out := make([]Addr, len(data)/BlockSize)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	round, start := 0, cpuTime(b)
	for b.Loop() {
		round++
		distinct(data, round)
		putAll(b, w, data, 2<<20, nil, out)
	}
	reportCore(b, int64(round*len(data)), start)
	st := s.Stats()
	b.ReportMetric(float64(st.Put.NewBytes)/float64(st.Put.StoredBytes), "ratio")
}

func BenchmarkPutNewFiles(b *testing.B) {
	benchPut(b, append([]byte(nil), realFiles()...), (*Store).NewWriter)
}
func BenchmarkPutNewRandom(b *testing.B) {
	benchPut(b, randomBytes(benchBytes), (*Store).NewWriter)
}
func BenchmarkPutLaterFiles(b *testing.B) {
	benchPut(b, append([]byte(nil), realFiles()...), (*Store).NewLaterWriter)
}

// BenchmarkPut1M puts a MiB at a time, one after the other.
func BenchmarkPut1M(b *testing.B) {
	for name, writer := range map[string]func(*Store) *Writer{"zstd": (*Store).NewWriter, "later": (*Store).NewLaterWriter} {
		b.Run(name, func(b *testing.B) {
			const size = 1 << 20
			data, out := append([]byte(nil), realFiles()...), make([]Addr, size/BlockSize)
			w := writer(benchStore(b, MaxPackSize))
			defer w.Close()
			b.SetBytes(size)
			b.ReportAllocs()
			start, i := cpuTime(b), 0
			for b.Loop() {
				part := data[i*size%len(data):][:size]
				i++
				distinct(part, i)
				if _, err := w.Put(part, nil, out); err != nil {
					b.Fatal(err)
				}
			}
			reportCore(b, int64(i*size), start)
		})
	}
}

// BenchmarkCompressPack writes full packs anew: bytes are of raw data.
func BenchmarkCompressPack(b *testing.B) {
	s := benchStore(b, MaxPackSize)
	data, out := append([]byte(nil), realFiles()...), make([]Addr, benchBytes/BlockSize)
	var raw int64
	start, round := cpuTime(b), 0
	for b.Loop() {
		b.StopTimer()
		began := cpuTime(b)
		for len(s.LaterPacks()) == 0 {
			round++
			w := s.NewLaterWriter()
			distinct(data, round)
			putAll(b, w, data, 2<<20, nil, out)
			w.Close()
			s.seals.Wait()
		}
		s.putAt.Store(0)
		start += cpuTime(b) - began
		b.StartTimer()
		r, err := s.CompressPack(b.Context(), s.LaterPacks()[0], nil)
		if err != nil {
			b.Fatal(err)
		}
		raw += r.Before
	}
	b.ReportMetric(float64(raw)/1e6/b.Elapsed().Seconds(), "MB/s")
	reportCore(b, raw, start)
}
func BenchmarkPutZero(b *testing.B) {
	s := benchStore(b, MaxPackSize)
	w := s.NewWriter()
	defer w.Close()
	data, out := make([]byte, 2<<20), make([]Addr, 32)
	b.SetBytes(2 << 20)
	for b.Loop() {
		w.Put(data, nil, out)
	}
}

// benchAgain stores what is there already, shuffled in runs of the given
// number of blocks.
func benchAgain(b *testing.B, hint bool, run int) {
	s := benchStore(b, 2<<20) // small packs, so that nearly all are sealed
	w := s.NewWriter()
	data := realFiles()
	addrs, out := make([]Addr, len(data)/BlockSize), make([]Addr, len(data)/BlockSize)
	putAll(b, w, data, 2<<20, nil, addrs)
	w.Close()
	s.seals.Wait()
	shuffled := append([]byte(nil), data...)
	rng := rand.New(rand.NewPCG(1, 1))
	n := len(data) / BlockSize / run
	for i, j := range rng.Perm(n) {
		copy(shuffled[i*run*BlockSize:(i+1)*run*BlockSize], data[j*run*BlockSize:])
		copy(out[i*run:(i+1)*run], addrs[j*run:])
	}
	var hints []Addr
	if hint {
		hints = append([]Addr(nil), out...)
	}
	w = s.NewWriter()
	defer w.Close()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	start := cpuTime(b)
	for b.Loop() {
		putAll(b, w, shuffled, 1<<20, hints, out)
	}
	reportCore(b, int64(b.N*len(data)), start)
	st := s.Stats()
	b.ReportMetric(float64(st.Put.Index)/float64(b.N)/float64(len(out)), "indexed")
}

func BenchmarkPutHint(b *testing.B)         { benchAgain(b, true, 1) }
func BenchmarkPutIndexRuns(b *testing.B)    { benchAgain(b, false, 64) }
func BenchmarkPutIndexScatter(b *testing.B) { benchAgain(b, false, 1) }

func benchRead(b *testing.B, blocks int, random bool, parallel bool) {
	s := benchStore(b, MaxPackSize)
	w := s.NewWriter()
	data := realFiles()
	addrs := make([]Addr, len(data)/BlockSize)
	putAll(b, w, data, 2<<20, nil, addrs)
	w.Close()
	b.SetBytes(int64(blocks * BlockSize))
	b.ReportAllocs()
	b.ResetTimer()
	start := cpuTime(b)
	work := func(next func() bool, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		dst := make([]byte, blocks*BlockSize)
		for i := 0; next(); i++ {
			at := (i * blocks) % (len(addrs) - blocks)
			if random {
				at = rng.IntN(len(addrs) - blocks)
			}
			if err := s.Read(addrs[at:at+blocks], dst); err != nil {
				b.Fatal(err)
			}
		}
	}
	if parallel {
		var seed atomic.Uint64
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) { work(pb.Next, seed.Add(1)) })
	} else {
		work(b.Loop, 1)
	}
	st := s.Stats()
	reportCore(b, int64(st.ReadBlocks)*BlockSize, start)
	b.ReportMetric(float64(st.DecodedBytes)/float64(st.ReadBlocks*BlockSize), "decoded/read")
}

func BenchmarkReadSeq2M(b *testing.B)             { benchRead(b, 32, false, false) }
func BenchmarkReadSeq256K(b *testing.B)           { benchRead(b, 4, false, false) }
func BenchmarkReadSeq64K(b *testing.B)            { benchRead(b, 1, false, false) }
func BenchmarkReadRandom64K(b *testing.B)         { benchRead(b, 1, true, false) }
func BenchmarkReadRandom64KInFlight(b *testing.B) { benchRead(b, 1, true, true) }

// BenchmarkDecodeBlock decodes one block out of a frame, by prefix: each place
// in turn.
func BenchmarkDecodeBlock(b *testing.B) {
	for want := 1; want <= FrameBlocks; want++ {
		b.Run(fmt.Sprintf("place%d", want-1), func(b *testing.B) {
			c, data := testCodec(b), realFiles()
			var frames [][]byte
			for off := 0; off < len(data); off += frameRaw {
				if payload, id := c.encode(nil, data[off:off+frameRaw]); id == codecZstd {
					frames = append(frames, payload)
				}
			}
			dst := make([]byte, want*BlockSize)
			b.ResetTimer()
			start := cpuTime(b)
			for i := 0; b.Loop(); i++ {
				if err := c.decode(codecZstd, frames[i%len(frames)], dst, FrameBlocks); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpuTime(b)-start).Microseconds())/float64(b.N), "core-µs")
		})
	}
}

func BenchmarkBlockHash(b *testing.B) {
	h, block := newHasher([32]byte{}), randomBytes(BlockSize)
	b.SetBytes(BlockSize)
	for b.Loop() {
		h.blockHash(block)
	}
}
