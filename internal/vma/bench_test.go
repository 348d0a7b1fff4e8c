package vma

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
)

// benchDisk is 256 MiB, half of it data in runs of 1 MiB.
func benchDisk() []byte {
	disk := make([]byte, 256<<20)
	rng := rand.NewChaCha8([32]byte{1})
	for off := 0; off < len(disk); off += 2 << 20 {
		rng.Read(disk[off:][:1<<20])
	}
	return disk
}

func BenchmarkWriter(b *testing.B) {
	disk := benchDisk()
	h := proxmox(map[uint8][]byte{1: disk})
	b.SetBytes(int64(len(disk)))
	for b.Loop() {
		w, err := NewWriter(io.Discard, h)
		if err != nil {
			b.Fatal(err)
		}
		for off := 0; off < len(disk); off += ClusterSize {
			if err := w.Cluster(1, uint32(off/ClusterSize), disk[off:][:ClusterSize]); err != nil {
				b.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWrite includes reading the sources, from memory.
func BenchmarkWrite(b *testing.B) {
	disk := benchDisk()
	h := proxmox(map[uint8][]byte{1: disk})
	b.SetBytes(int64(len(disk)))
	for b.Loop() {
		if err := Write(b.Context(), io.Discard, h, map[uint8]Source{1: &memory{disk: disk}}, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReader(b *testing.B) {
	disk := benchDisk()
	disks := map[uint8][]byte{1: disk}
	whole := archive(b, proxmox(disks), disks)
	b.SetBytes(int64(len(disk)))
	for b.Loop() {
		r, err := NewReader(bytes.NewReader(whole))
		for err == nil {
			_, _, _, _, err = r.Next()
		}
		if err != io.EOF {
			b.Fatal(err)
		}
	}
}

// BenchmarkZeros is the cost of a disk's empty part: 1 TiB.
func BenchmarkZeros(b *testing.B) {
	h := Header{Devices: []Device{{1, "a", 1 << 40}}}
	b.SetBytes(1 << 40)
	for b.Loop() {
		w, err := NewWriter(io.Discard, h)
		if err != nil {
			b.Fatal(err)
		}
		for i := range uint32(1 << 24) {
			w.Cluster(1, i, nil)
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
