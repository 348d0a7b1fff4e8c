package files

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/sftp"
	"github.com/strongroom-backup/strongroom/volume"
)

// benchWorld is a store in STRONGROOM_BENCH_DIR (a tmpfs, or the disk in
// question), else in the test's folder.
func benchWorld(b *testing.B) *world {
	dir, err := os.MkdirTemp(os.Getenv("STRONGROOM_BENCH_DIR"), "files-bench")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return newWorldOn(b, vfs.Default, dir)
}

// fill writes size bytes that compress by half and that nobody has, as sshfs
// does.
func fill(b *testing.B, f sftp.File, size int64, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	p := make([]byte, 64<<10)
	copy(p, noise(r, len(p)/2))
	for off := int64(0); off < size; off += int64(len(p)) {
		for i := 0; i < len(p)/2; i += 4096 {
			binary.LittleEndian.PutUint64(p[i:], r.Uint64())
		}
		if _, err := f.WriteAt(p, off); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
}

// export is an NBD client's disk.
type export struct{ *volume.Disk }

func (export) Stat() (a sftp.Attr, err error) { return a, nil }
func (export) SetAttr(sftp.Changes) error     { return nil }
func (export) Sync() error                    { return nil }
func (export) Abandon() error                 { return nil }

const benchSize = 512 << 20

// A raw image of new data, in 64 KiB requests.
func BenchmarkWrite(b *testing.B) {
	w := benchWorld(b)
	b.SetBytes(benchSize)
	seed := uint64(0)
	for b.Loop() {
		seed++
		session, tree := w.job("vm")
		fill(b, w.open(tree, "/vda.raw", create), benchSize, seed)
		b.StopTimer()
		if err := w.m.Abort(session); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// The same disk again.
func BenchmarkWriteAgain(b *testing.B) {
	w := benchWorld(b)
	session, tree := w.job("vm")
	fill(b, w.open(tree, "/vda.raw", create), benchSize, 1)
	w.commit(session)
	b.SetBytes(benchSize)
	for b.Loop() {
		session, tree := w.job("vm")
		fill(b, w.open(tree, "/vda.raw", create), benchSize, 1)
		b.StopTimer()
		w.m.Abort(session)
		b.StartTimer()
	}
}

// The gathering alone.
func BenchmarkGather(b *testing.B) {
	n := alone(b, &nowhere{}, maxPieces)
	p := make([]byte, 64<<10)
	b.SetBytes(int64(len(p)))
	off := int64(0)
	for b.Loop() {
		n.write(p, off, false)
		off = (off + int64(len(p))) % (1 << 30)
	}
}

type nowhere struct{ fake }

func (*nowhere) SetState(volume.FileState) error        { return nil }
func (*nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// What a restore reads, in 64 KiB requests, one after the other: of a file as it
// was stored, and of a compressed disk.
func BenchmarkRead(b *testing.B) {
	w := benchWorld(b)
	session, tree := w.job("vm")
	fill(b, w.open(tree, "/vda.raw", create), benchSize, 1)
	w.commit(session)
	st, err := w.m.Start(volume.StartRequest{VM: "vm", Disks: []volume.DiskSpec{{Name: "packed", Size: benchSize}}})
	if err != nil {
		b.Fatal(err)
	}
	x, err := w.m.OpenExport(st.Disks[0].Token)
	if err != nil {
		b.Fatal(err)
	}
	fill(b, export{x}, benchSize, 2)
	if _, err := w.m.Commit(st.Session); err != nil {
		b.Fatal(err)
	}
	tree = w.user(User{Name: "u", VM: "vm", Restore: true}, "c1")
	for _, name := range []string{"latest~1/vda.raw", "latest~1/vda.qcow2", "latest~1/files/vda.raw", "latest/packed.raw", "latest/packed.qcow2"} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(benchSize)
			p := make([]byte, 64<<10)
			for b.Loop() {
				f := w.open(tree, "/restore/vm/"+name, readOnly)
				for off := int64(0); off < benchSize; off += int64(len(p)) {
					if _, err := f.ReadAt(p, off); err != nil {
						b.Fatal(err)
					}
				}
				f.Close()
			}
		})
	}
}

// ls -l of a chain that nobody has looked at before.
func BenchmarkListChain(b *testing.B) {
	const size = 1 << 40
	w := benchWorld(b)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 64 {
		mode := "incremental"
		if i == 0 {
			mode = "full"
		}
		st, err := w.m.Start(volume.StartRequest{VM: "vm", Disks: []volume.DiskSpec{{Name: "vda", Size: size}}, Mode: mode})
		if err != nil {
			b.Fatal(err)
		}
		x, err := w.m.OpenExport(st.Disks[0].Token)
		if err != nil {
			b.Fatal(err)
		}
		p := noise(r, 64<<10)
		for chunk := range int64(size >> 26) {
			if i == 0 || r.IntN(100) == 0 {
				binary.LittleEndian.PutUint64(p, r.Uint64())
				if _, err := x.WriteAt(p, chunk<<26+r.Int64N(1024)<<16); err != nil {
					b.Fatal(err)
				}
			}
		}
		x.Close()
		if _, err := w.m.Commit(st.Session); err != nil {
			b.Fatal(err)
		}
	}
	tree := w.user(User{Name: "u", VM: "vm", Restore: true}, "c1")
	for b.Loop() {
		w.s.views = newViewCache(idleViewBytes, maxViewBytes)
		if _, err := tree.ReadDir("/restore/vm/latest/vda.chain", "", 100); err != nil {
			b.Fatal(err)
		}
	}
}
