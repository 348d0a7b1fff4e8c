package vma

import (
	"bytes"
	"crypto/md5"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"
)

// extents are where an archive's extents begin, and its end.
func extents(b []byte) (list []int) {
	at := int(binary.BigEndian.Uint32(b[56:]))
	for at < len(b) {
		list = append(list, at)
		at += extentHeader + BlockSize*int(binary.BigEndian.Uint16(b[at+6:]))
	}
	return append(list, at)
}

// drain reads an archive and forgets what it holds.
func drain(b []byte) error {
	r, err := NewReader(bytes.NewReader(b))
	for err == nil {
		_, _, _, _, err = r.Next()
	}
	return err
}

func refused(t *testing.T, b []byte, what string, args ...any) {
	t.Helper()
	var f *FormatError
	if err := drain(b); !errors.As(err, &f) {
		t.Fatalf(what+": %v", append(args, err)...)
	}
}

// sample is an archive of three extents, with little data in them.
func sample(t *testing.T) []byte {
	rng := newRand(t)
	disks := map[uint8][]byte{1: make([]byte, 8<<20+700), 3: randomDisk(rng, 70000)}
	for range 20 {
		disks[1][rng.IntN(len(disks[1]))] = 1
	}
	disks[1][5<<20+4096], disks[1][8<<20+1] = 1, 1
	return archive(t, proxmox(disks), disks)
}

func TestFlippedHeaders(t *testing.T) {
	b := sample(t)
	at := extents(b)
	flip := func(i int) {
		b[i] ^= 1 << (i % 8)
		refused(t, b, "byte %d flipped", i)
		b[i] ^= 1 << (i % 8)
	}
	for i := range at[0] {
		flip(i)
	}
	for _, start := range at[:len(at)-1] {
		for i := range extentHeader {
			flip(start + i)
		}
	}
}

func TestTruncated(t *testing.T) {
	b := sample(t)
	at := extents(b)
	cuts := append(slices.Clone(at), 0, 1, 3, 4, 59, blobsAt-1, blobsAt, blobsAt+1)
	for _, start := range at[:len(at)-1] {
		cuts = append(cuts, start-1, start+1, start+extentHeader-1, start+extentHeader, start+extentHeader+1)
	}
	for n := 977; n < len(b); n += 9973 {
		cuts = append(cuts, n)
	}
	for _, n := range cuts {
		if n < len(b) {
			refused(t, b[:n], "cut to %d of %d bytes", n, len(b))
		}
	}
}

func TestRearrangedExtents(t *testing.T) {
	b := sample(t)
	at := extents(b)
	other := sample(t)
	otherAt := extents(other)
	for i, start := range at[:len(at)-1] {
		end := at[i+1]
		one := b[start:end]
		refused(t, slices.Concat(b[:start], b[end:]), "extent %d dropped", i)
		refused(t, slices.Concat(b, one), "extent %d again at the end", i)
		refused(t, slices.Concat(b[:start], one, b[start:]), "extent %d twice", i)
		if i < len(otherAt)-1 {
			refused(t, slices.Concat(b[:start], other[otherAt[i]:otherAt[i+1]], b[end:]), "extent %d of another archive", i)
		}
		moved := slices.Concat(b[:at[0]], one, b[at[0]:start], b[end:])
		if _, _, err := readAll(bytes.NewReader(moved)); err != nil {
			t.Errorf("extent %d moved to the front: %v", i, err)
		}
	}
	refused(t, append(b, 0), "a zero byte more")
	refused(t, append(b, make([]byte, 4096)...), "zeros at the end")
	refused(t, append(b, b...), "an archive after the archive")
}

// sum makes the checksum of b, at b[at:], right.
func sum(b []byte, at int) {
	clear(b[at : at+16])
	s := md5.Sum(b)
	copy(b[at:], s[:])
}

// TestLyingHeader has a right checksum over what must be refused.
func TestLyingHeader(t *testing.T) {
	whole := sample(t)
	n := extents(whole)[0]
	be := binary.BigEndian
	for _, c := range []struct {
		what string
		lie  func(b []byte)
	}{
		{"version", func(b []byte) { be.PutUint32(b[4:], 2) }},
		{"short header", func(b []byte) { be.PutUint32(b[56:], blobsAt) }},
		{"odd header", func(b []byte) { be.PutUint32(b[56:], blobsAt+1) }},
		{"huge header", func(b []byte) { be.PutUint32(b[56:], 1<<32-512) }},
		{"blobs in the tables", func(b []byte) { be.PutUint32(b[48:], 0) }},
		{"blobs beyond the header", func(b []byte) { be.PutUint32(b[52:], uint32(n)) }},
		{"huge blobs", func(b []byte) { be.PutUint32(b[52:], 1<<32-1) }},
		{"no blobs", func(b []byte) { be.PutUint32(b[52:], 0) }},
		{"a name outside", func(b []byte) { be.PutUint32(b[configNames:], 1<<31) }},
		{"a blob that ends outside", func(b []byte) { b[blobsAt+1], b[blobsAt+2] = 0xff, 0xff }},
		{"no zero byte", func(b []byte) { b[blobsAt+3+len("qemu-server.conf")] = 'x' }},
		{"a zero byte inside", func(b []byte) { b[blobsAt+5] = 0 }},
		{"a file without a name", func(b []byte) { be.PutUint32(b[configNames:], 0) }},
		{"a name without a file", func(b []byte) { be.PutUint32(b[configData:], 0) }},
		{"a file twice", func(b []byte) { copy(b[configNames+4:], b[configNames:configNames+4]) }},
		{"device 0", func(b []byte) { copy(b[devicesAt:], b[devicesAt+32:devicesAt+64]) }},
		{"device 255", func(b []byte) { copy(b[devicesAt+255*32:], b[devicesAt+32:devicesAt+64]) }},
		{"a device twice", func(b []byte) { copy(b[devicesAt+64:], b[devicesAt+32:devicesAt+64]) }},
		{"no size", func(b []byte) { be.PutUint64(b[devicesAt+40:], 0) }},
		{"negative size", func(b []byte) { be.PutUint64(b[devicesAt+40:], 1<<63) }},
		{"huge size", func(b []byte) { be.PutUint64(b[devicesAt+40:], 1<<48+1) }},
		{"huge sizes", func(b []byte) { be.PutUint64(b[devicesAt+40:], 1<<48) }},
		{"no name", func(b []byte) { be.PutUint32(b[devicesAt+32:], 0) }},
		{"larger than its data", func(b []byte) { be.PutUint64(b[devicesAt+40:], 9<<20) }},
		{"smaller than its data", func(b []byte) { be.PutUint64(b[devicesAt+40:], 1<<20) }},
		{"ends a block earlier", func(b []byte) { be.PutUint64(b[devicesAt+40:], 8<<20) }},
	} {
		b := slices.Clone(whole)
		c.lie(b)
		sum(b[:n], 32)
		refused(t, b, c.what)
	}
}

func TestLyingExtent(t *testing.T) {
	disk := bytes.Repeat([]byte{1}, 3*ClusterSize+BlockSize+1)
	disks := map[uint8][]byte{4: disk}
	whole := archive(t, proxmox(disks), disks)
	at := extents(whole)[0]
	be := binary.BigEndian
	info := func(slot int, mask, dev, cluster uint64) func([]byte) {
		return func(x []byte) { be.PutUint64(x[40+8*slot:], mask<<48|dev<<32|cluster) }
	}
	for _, c := range []struct {
		what string
		lie  func(extent []byte)
	}{
		{"one block less", func(x []byte) { be.PutUint16(x[6:], be.Uint16(x[6:])-1) }},
		{"one block more", func(x []byte) { be.PutUint16(x[6:], be.Uint16(x[6:])+1) }},
		{"a smaller mask", info(0, 0x7fff, 4, 0)},
		{"a block beyond the end", info(3, 5, 4, 3)},
		{"a cluster beyond the end", info(3, 3, 4, 4)},
		{"a cluster twice", info(3, 3, 4, 0)},
		{"another device", info(0, 0xffff, 5, 0)},
		{"device 0", info(0, 0xffff, 0, 0)},
		{"device 0 with a number", info(4, 0, 0, 7)},
		{"an empty slot for data", info(3, 0, 0, 0)},
	} {
		b := slices.Clone(whole)
		c.lie(b[at:])
		sum(b[at:at+extentHeader], 24)
		refused(t, b, c.what)
	}
}

// TestReservedBits holds that bits without a meaning are not looked at, and an
// extent without clusters is none the worse for it.
func TestReservedBits(t *testing.T) {
	disks := map[uint8][]byte{4: bytes.Repeat([]byte{1}, 3*ClusterSize)}
	b := archive(t, proxmox(disks), disks)
	n := extents(b)[0]
	empty := make([]byte, extentHeader)
	copy(empty, extentMagic)
	copy(empty[8:], b[8:24])
	sum(empty, 24)
	b[60], b[2043] = 1, 1
	sum(b[:n], 32)
	_, got, err := readAll(bytes.NewReader(slices.Concat(b[:n], empty, b[n:], empty)))
	if err != nil || !bytes.Equal(got[4], disks[4]) {
		t.Error(err)
	}
}

// TestMemory passes on a VM's memory, which ends where it does.
func TestMemory(t *testing.T) {
	disks := map[uint8][]byte{4: bytes.Repeat([]byte{1}, 3*ClusterSize)}
	h := proxmox(disks)
	h.Devices[0].Name = "vmstatX" // which Write takes
	b := archive(t, h, disks)
	n := extents(b)[0]
	copy(b[bytes.Index(b, []byte("vmstatX")):], "vmstate")
	for _, size := range []uint64{1, 3 * ClusterSize, 1 << 40} {
		binary.BigEndian.PutUint64(b[devicesAt+4*32+8:], size)
		sum(b[:n], 32)
		r, err := NewReader(bytes.NewReader(b))
		if err != nil || !r.Header().Devices[0].Memory() {
			t.Fatal(err)
		}
		for i := range int64(3) {
			if _, off, data, _, err := r.Next(); err != nil || off != i*ClusterSize || !bytes.Equal(data, disks[4][:ClusterSize]) {
				t.Errorf("cluster %d at %d: %v", i, off, err)
			}
		}
		if _, _, _, _, err := r.Next(); err != io.EOF {
			t.Error(err)
		}
	}
	x := b[n:]
	copy(x[40:], x[48:56]) // cluster 1 first
	sum(x[:extentHeader], 24)
	r, err := NewReader(bytes.NewReader(b))
	if err == nil {
		_, _, _, _, err = r.Next()
	}
	var f *FormatError
	if !errors.As(err, &f) {
		t.Errorf("memory out of order: %v", err)
	}
}

// TestStreamFails holds that an error of the stream is not taken for damage, and
// that pieces of any length are put together.
func TestStreamFails(t *testing.T) {
	b := sample(t)
	if _, _, err := readAll(iotest.HalfReader(bytes.NewReader(b))); err != nil {
		t.Error(err)
	}
	broken := errors.New("broken")
	at := extents(b)
	for _, n := range []int{0, 2, 100, at[0] - 1, at[0], at[0] + 1, at[0] + 600, len(b)} {
		_, _, err := readAll(io.MultiReader(bytes.NewReader(b[:n]), iotest.ErrReader(broken)))
		if !errors.Is(err, broken) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
	r, err := NewReader(bytes.NewReader(b[:at[0]]))
	if err != nil {
		t.Fatal(err)
	}
	_, _, _, _, first := r.Next()
	if _, _, _, _, again := r.Next(); first == nil || again != first {
		t.Errorf("%v, then %v", first, again)
	}
}
