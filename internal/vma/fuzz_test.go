package vma

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
)

// assemble makes an archive of its parts: words of the header as place[2]
// value[4]; what is in its blobs; and extents, of which the headers may be cut
// short: count[1] and as many clusters, blocks[1] and as many bytes of blocks
// that go on with zeros. Checksums and the like are right.
func assemble(words, blobs, data []byte) []byte {
	be := binary.BigEndian
	b := make([]byte, blobsAt, headerMax)
	copy(b, headerMagic)
	be.PutUint32(b[4:], 1)
	be.PutUint32(b[48:], blobsAt)
	be.PutUint32(b[52:], uint32(len(blobs)))
	b = append(b, blobs[:min(len(blobs), 4096)]...)
	b = append(b, make([]byte, 512-len(b)%512)...)
	be.PutUint32(b[56:], uint32(len(b)))
	for ; len(words) >= 6; words = words[6:] {
		be.PutUint32(b[be.Uint16(words)%(blobsAt-3):], be.Uint32(words[2:]))
	}
	sum(b, 32)
	for len(data) > 0 {
		var x [extentHeader]byte
		copy(x[:], extentMagic)
		copy(x[8:24], b[8:24])
		n := min(int(data[0]%(slots+1))*8, len(data)-1)
		copy(x[40:], data[1:1+n])
		data = data[1+n:]
		blocks := 0
		if len(data) > 0 {
			blocks = int(data[0])
			data = data[1:]
		}
		be.PutUint16(x[6:], uint16(blocks))
		sum(x[:], 24)
		b = append(b, x[:]...)
		n = min(blocks, len(data))
		b = append(append(b, data[:n]...), make([]byte, blocks*BlockSize-n)...)
		data = data[n:]
	}
	return b
}

// FuzzReader: no input makes a Reader panic, hand out what does not fit the
// header, or come to the end without every cluster; and what it takes, a Writer
// writes so that it is read as the same.
func FuzzReader(f *testing.F) {
	be := binary.BigEndian
	word := func(at uint16, value uint32) []byte { return be.AppendUint32(be.AppendUint16(nil, at), value) }
	cluster := func(mask, dev, n uint64) []byte { return be.AppendUint64(nil, mask<<48|dev<<32|n) }
	blobs := []byte("\x00\x02\x00a\x00\x02\x00b\x00\x05\x00hello\x08\x00vmstate\x00")
	config := slices.Concat(word(configNames, 1), word(configData, 9))
	device := slices.Concat(word(devicesAt+32, 1), word(devicesAt+44, 5000))
	second := slices.Concat(word(devicesAt+64, 5), word(devicesAt+76, 70000))
	state := slices.Concat(word(devicesAt+64, 16), word(devicesAt+76, 70000))
	f.Add(config, blobs, []byte{})
	f.Add(device, blobs, slices.Concat([]byte{1}, cluster(3, 1, 0), []byte{2, 'x', 'y'}))
	f.Add(slices.Concat(config, device, second), blobs,
		slices.Concat([]byte{2}, cluster(0, 2, 1), cluster(1, 1, 0), []byte{1, 'x'}, []byte{1}, cluster(0xffff, 2, 0), []byte{16, 'z'}))
	f.Add(slices.Concat(device, state), blobs,
		slices.Concat([]byte{3}, cluster(0, 2, 0), cluster(1, 1, 0), cluster(0xffff, 2, 1), []byte{17, 'x'}))
	f.Add(slices.Concat(device, word(devicesAt+40, 1<<15)), blobs, slices.Concat([]byte{1}, cluster(0, 1, 1<<31), []byte{0}))
	f.Fuzz(func(t *testing.T, words, blobs, data []byte) {
		b := assemble(words, blobs, data)
		if h, _, err := readHeader(bytes.NewReader(b)); err == nil && slices.ContainsFunc(h.Devices, func(d Device) bool { return d.Memory() || d.Size > 1<<20 }) {
			drain(b) // its disks would take more room than there is, or have any length
			return
		}
		h, disks, err := readAll(bytes.NewReader(b))
		if err == nil {
			checkRewritten(t, h, disks)
		}
	})
}

func checkRewritten(t *testing.T, h Header, disks map[uint8][]byte) {
	var out bytes.Buffer
	w, err := NewWriter(&out, h)
	if err != nil {
		return // such as too large once every blob has its own bytes
	}
	for _, d := range h.Devices {
		for off := int64(0); off < d.Size; off += ClusterSize {
			if err := w.Cluster(d.ID, uint32(off/ClusterSize), disks[d.ID][off:min(d.Size, off+ClusterSize)]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got, gotDisks, err := readAll(&out)
	if err != nil {
		t.Fatal(err)
	}
	checkSame(t, h, disks, got, gotDisks)
}
