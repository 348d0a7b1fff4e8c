package nbd_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strongroom-backup/strongroom/nbd"
	"github.com/strongroom-backup/strongroom/nbd/nbdtest"
)

// nullDevice throws writes away and reads zeros, as nbdkit's null plugin does.
type nullDevice struct{ size int64 }

func (d nullDevice) Size() int64                            { return d.size }
func (d nullDevice) ReadAt(p []byte, _ int64) (int, error)  { clear(p); return len(p), nil }
func (d nullDevice) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (d nullDevice) Zero(int64, int64) error                { return nil }
func (d nullDevice) Flush() error                           { return nil }
func (d nullDevice) Close() error                           { return nil }
func (d nullDevice) Extents(_, n int64, yield func(int64, bool) bool) error {
	yield(n, false)
	return nil
}

type nullExports struct{ *nbdtest.Exports }

func (nullExports) Stat(context.Context, string) (nbd.Info, int64, error) {
	return nbd.Info{Name: "null"}, 8 << 30, nil
}

func (nullExports) Open(context.Context, string) (nbd.Device, nbd.Info, error) {
	return nullDevice{8 << 30}, nbd.Info{Name: "null"}, nil
}

func nullWorld(b *testing.B) *world {
	return newWorld(b, func(o *nbd.Options) { o.Exports = nullExports{} })
}

// BenchmarkFio compares with nbdkit's null plugin, in turns, and takes the best
// of each: use -benchtime 5x. The ratio is ours to nbdkit's; above 1 is better.
func BenchmarkFio(b *testing.B) {
	w := nullWorld(b)
	b.Chdir(b.TempDir())
	sock := filepath.Join(b.TempDir(), "k")
	kit := exec.Command("nbdkit", "-f", "-U", sock, "null", "size=8G")
	if err := kit.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = kit.Process.Signal(os.Interrupt); _ = kit.Wait() }()
	eventually(b, "nbdkit listens", func() bool { _, err := os.Stat(sock); return err == nil })
	for _, k := range []struct{ rw, bs, depth, total string }{
		{"write", "1m", "16", "4g"}, {"read", "1m", "16", "4g"},
		{"randwrite", "64k", "16", "2g"}, {"randread", "64k", "16", "2g"},
		{"randwrite", "4k", "64", "200m"}, {"randread", "4k", "64", "200m"}, {"randread", "4k", "1", "40m"},
	} {
		b.Run(fmt.Sprintf("%s-%s-qd%s", k.rw, k.bs, k.depth), func(b *testing.B) {
			var ours, theirs float64
			for range b.N {
				ours = max(ours, fio(b, w.uri("null"), k.rw, k.bs, k.depth, k.total))
				theirs = max(theirs, fio(b, "nbd+unix:///?socket="+sock, k.rw, k.bs, k.depth, k.total))
			}
			b.ReportMetric(ours, "MiB/s")
			b.ReportMetric(theirs, "nbdkit-MiB/s")
			b.ReportMetric(ours/theirs, "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// fio runs one job and returns MiB/s.
func fio(b *testing.B, uri, rw, bs, depth, total string) float64 {
	b.Helper()
	out := tool(b, "fio", "--name=x", "--ioengine=nbd", "--uri="+uri, "--rw="+rw, "--bs="+bs,
		"--iodepth="+depth, "--size=4g", "--io_size="+total, "--output-format=json")
	var r struct {
		Jobs []struct {
			Read, Write struct {
				BW float64 `json:"bw_bytes"`
			}
		}
	}
	if err := json.Unmarshal([]byte(out[strings.Index(out, "{"):]), &r); err != nil {
		b.Fatal(err)
	}
	return (r.Jobs[0].Read.BW + r.Jobs[0].Write.BW) / mib
}

// BenchmarkRequests measures our side alone, allocations included, with a
// client that only moves bytes.
func BenchmarkRequests(b *testing.B) {
	for _, k := range []struct {
		name  string
		cmd   uint16
		n     int
		depth int
	}{
		{"write-4k", cmdWrite, 4096, 16}, {"write-64k", cmdWrite, 65536, 16}, {"write-1m", cmdWrite, mib, 16},
		{"read-4k", cmdRead, 4096, 16}, {"read-64k", cmdRead, 65536, 16}, {"read-1m", cmdRead, mib, 16},
		{"zero-64k", cmdZero, 65536, 16},
	} {
		b.Run(k.name, func(b *testing.B) {
			w := nullWorld(b)
			c := w.simple("null")
			_ = c.SetDeadline(noDeadline)
			message := cat(be32(0x25609513), be16(0), be16(k.cmd), be64(1), be64(0), be32(uint32(k.n)))
			answer := 16
			switch k.cmd {
			case cmdWrite:
				message = append(message, make([]byte, k.n)...)
			case cmdRead:
				answer += k.n
			}
			tokens := make(chan struct{}, k.depth)
			done := make(chan error, 1)
			b.SetBytes(int64(k.n))
			b.ReportAllocs()
			b.ResetTimer()
			go func() {
				buf := make([]byte, answer)
				var err error
				for i := 0; i < b.N && err == nil; i++ {
					_, err = io.ReadFull(c, buf)
					<-tokens
				}
				done <- err
			}()
			for range b.N {
				tokens <- struct{}{}
				if _, err := c.Write(message); err != nil {
					b.Fatal(err)
				}
			}
			if err := <-done; err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			c.bye()
		})
	}
}
