package qcow2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
)

// victim is an image to be spoiled.
type victim struct {
	bytes []byte
	q     *Reader // of the bytes as they were
}

func (v *victim) u32(off int64, x uint32) { binary.BigEndian.PutUint32(v.bytes[off:], x) }
func (v *victim) u64(off int64, x uint64) { binary.BigEndian.PutUint64(v.bytes[off:], x) }
func (v *victim) get(off int64) uint64    { return binary.BigEndian.Uint64(v.bytes[off:]) }

// l1 is the place of an L1 entry.
func (v *victim) l1(i int64) int64 { return v.q.h.l1 + i*8 }

// l2 is the place of the L2 entry of a cluster of the disk.
func (v *victim) l2(cluster int64) int64 {
	per := v.q.ClusterSize() / v.q.h.entrySize()
	return int64(v.get(v.l1(cluster/per))&hostMask) + cluster%per*v.q.h.entrySize()
}

// packedAt is where the compressed cluster begins, of 4 KiB unpacked.
func (v *victim) packedAt(cluster int64) int64 { return int64(v.get(v.l2(cluster)) & (1<<58 - 1)) }

// end is the length of the file, rounded up to a cluster.
func (v *victim) end() uint64 {
	return uint64(divUp(int64(len(v.bytes)), v.q.ClusterSize()) * v.q.ClusterSize())
}

// copyEntry makes cluster a's entry that of b too.
func (v *victim) copyEntry(a, b int64) { v.u64(v.l2(b), v.get(v.l2(a))) }

// victims are images with data in clusters 0 to 2 and in another L2 table's,
// compressed clusters 10 to 12, and zero clusters 20 and 21.
func victims(t testing.TB) map[string][]byte {
	list := map[string][]byte{}
	for name, options := range map[string]string{
		"v3":       "cluster_size=4k",
		"v2":       "cluster_size=4k,compat=0.10",
		"zstd":     "cluster_size=4k,compression_type=zstd",
		"extended": "cluster_size=16k,extended_l2=on",
	} {
		path := filepath.Join(t.TempDir(), name)
		newImage(t, path, options, 40<<20)
		q := open(t, path)
		c := q.ClusterSize()
		change(t, path, []string{
			fmt.Sprintf("write -P 1 0 %d", 3*c),
			fmt.Sprintf("write -P 2 %d %d", 2*q.h.tableSpan(), c),
		})
		change(t, path, []string{fmt.Sprintf("write -c -P 3 %d %d", 10*c, 3*c)})
		change(t, path, []string{fmt.Sprintf("write -z -u %d %d", 20*c, 2*c)})
		list[name] = readFile(t, path)
	}
	return list
}

// hostile is every way to spoil an image that has an error of its own.
var hostile = []struct {
	name, base string
	spoil      func(v *victim)
	want       string
}{
	// The header.
	{"empty file", "v3", func(v *victim) { v.bytes = nil }, "does not begin with the header"},
	{"cut header", "v3", func(v *victim) { v.bytes = v.bytes[:71] }, "does not begin with the header"},
	{"cut v3 header", "v3", func(v *victim) { v.bytes = v.bytes[:103] }, "ends within its header"},
	{"magic", "v3", func(v *victim) { v.bytes[0] = 'q' }, "does not begin with the header"},
	{"version 1", "v3", func(v *victim) { v.u32(4, 1) }, "version 1"},
	{"version 4", "v3", func(v *victim) { v.u32(4, 4) }, "version 4"},
	{"small clusters", "v3", func(v *victim) { v.u32(20, 8) }, "clusters of 2^8 bytes"},
	{"large clusters", "v3", func(v *victim) { v.u32(20, 22) }, "clusters of 2^22 bytes"},
	{"absurd clusters", "v3", func(v *victim) { v.u32(20, 1<<31) }, "clusters of 2^2147483648 bytes"},
	{"short header length", "v3", func(v *victim) { v.u32(100, 96) }, "a header of 96 bytes"},
	{"long header length", "v3", func(v *victim) { v.u32(100, 4104) }, "a header of 4104 bytes"},
	{"odd header length", "v3", func(v *victim) { v.u32(100, 106) }, "a header of 106 bytes"},
	{"refcount width", "v3", func(v *victim) { v.u32(96, 7) }, "reference counts of 2^7 bits"},
	{"AES", "v3", func(v *victim) { v.u32(32, 1) }, "encrypted (AES)"},
	{"LUKS", "v2", func(v *victim) { v.u32(32, 2) }, "encrypted (LUKS)"},
	{"unknown cipher", "v3", func(v *victim) { v.u32(32, 3) }, "unknown method 3"},
	{"unknown features", "v3", func(v *victim) { v.u64(72, 1<<5|1<<63) }, "incompatible bits 5, 63"},
	{"corrupt", "v3", func(v *victim) { v.u64(72, 2) }, "marked as corrupt"},
	{"data file", "v3", func(v *victim) { v.u64(72, 4) }, "file beside it"},
	{"compression without its bit", "v3", func(v *victim) { v.bytes[104] = 1 }, "contradict"},
	{"compression bit alone", "v3", func(v *victim) { v.u64(72, 8) }, "contradict"},
	{"compression not in the header", "v3", func(v *victim) { v.u64(72, 8); v.u32(100, 104) }, "contradict"},
	{"unknown compression", "zstd", func(v *victim) { v.bytes[104] = 2 }, "unknown method 2"},
	{"small subclusters", "v3", func(v *victim) { v.u64(72, 16) }, "too small to be divided"},
	{"huge disk", "v3", func(v *victim) { v.u64(24, 1<<50+1) }, "1 PiB"},
	{"negative disk", "v3", func(v *victim) { v.u64(24, 1<<63+512) }, "1 PiB"},
	{"disk larger than L1", "v3", func(v *victim) { v.u64(24, 1<<49) }, "an L1 table of 20 entries; a disk of"},
	{"huge L1", "v3", func(v *victim) { v.u32(36, 4<<20+1) }, "an L1 table of 4194305 entries"},
	{"L1 larger than the file", "v3", func(v *victim) { v.u32(36, 4<<20) }, "L1 table, 33554432 bytes"},
	{"L1 outside", "v3", func(v *victim) { v.u64(40, v.end()) }, "ends outside the file"},
	{"L1 far outside", "v3", func(v *victim) { v.u64(40, 1<<63) }, "ends outside the file"},
	{"L1 not aligned", "v3", func(v *victim) { v.u64(40, v.get(40)+8) }, "not at the beginning of a cluster"},
	{"no refcount table", "v3", func(v *victim) { v.u32(56, 0) }, "a refcount table of 0 bytes"},
	{"huge refcount table", "v3", func(v *victim) { v.u32(56, 1<<31) }, "a refcount table of"},
	{"refcount table outside", "v3", func(v *victim) { v.u64(48, v.end()) }, "ends outside the file"},
	{"refcount table not aligned", "v3", func(v *victim) { v.u64(48, 4097) }, "not at the beginning of a cluster"},
	{"backing name too long", "v3", func(v *victim) { v.u64(8, 1024); v.u32(16, 1024) }, "a backing file name of 1024 bytes"},
	{"backing name outside", "v3", func(v *victim) { v.u64(8, 1<<62); v.u32(16, 1) }, "a backing file name of 1 bytes"},
	{"backing name past the cluster", "v3", func(v *victim) { v.u64(8, 4090); v.u32(16, 10) }, "a backing file name of 10 bytes"},
	{"backing name in the header", "v3", func(v *victim) { v.u64(8, 100); v.u32(16, 4) }, "a backing file name of 4 bytes"},
	{"backing name with a zero", "v3", func(v *victim) { v.u64(8, 2000); v.u32(16, 4) }, "contains a zero byte"},
	{"long extension", "v3", func(v *victim) { v.u64(112, 7<<32|4096) }, "a header extension of 4096 bytes"},
	{"absurd extension", "v3", func(v *victim) { v.u64(112, 7<<32|(1<<32-1)) }, "a header extension of 4294967295 bytes"},
	{"long backing format", "v3", func(v *victim) { v.u32(112, extensionName); v.u32(116, 16) }, "backing file's format"},
	{"backing format twice", "v3", func(v *victim) {
		for i := int64(0); i < 2; i++ {
			v.u32(112+16*i, extensionName)
			v.u32(116+16*i, 3)
			copy(v.bytes[120+16*i:], "raw")
		}
	}, "given twice"},

	// L1 entries and L2 tables.
	{"L1 reserved low bits", "v3", func(v *victim) { v.u64(v.l1(0), v.get(v.l1(0))|1) }, "L1 entry"},
	{"L1 reserved high bits", "v3", func(v *victim) { v.u64(v.l1(3), 1<<56) }, "reserved bits"},
	{"L2 table not aligned", "v3", func(v *victim) { v.u64(v.l1(0), v.get(v.l1(0))+512) }, "L2 table"},
	{"L2 table outside", "v3", func(v *victim) { v.u64(v.l1(1), v.end()|copied) }, "ends outside the file"},
	{"L2 table far outside", "v3", func(v *victim) { v.u64(v.l1(1), 1<<55|copied) }, "ends outside the file"},
	{"L2 table at the cut end", "v3", func(v *victim) { v.u64(v.l1(1), v.end()|copied); v.bytes = append(v.bytes, make([]byte, 4095)...) }, "ends outside the file"},
	{"L2 table twice", "v3", func(v *victim) { v.u64(v.l1(1), v.get(v.l1(0))) }, "used already"},
	{"L2 table is the L1 table", "v3", func(v *victim) { v.u64(v.l1(1), v.get(40)) }, "used already"},
	{"L2 table is the refcount table", "v3", func(v *victim) { v.u64(v.l1(1), v.get(48)) }, "used already"},
	{"L2 table is a refcount block", "v3", func(v *victim) { v.u64(v.l1(1), v.get(int64(v.get(48)))) }, "used already"},
	{"L2 table is data", "v3", func(v *victim) { v.u64(v.l1(1), v.get(v.l2(1))) }, "used already"},
	{"L1 is the header", "v3", func(v *victim) { v.u64(40, 0) }, "used already"},
	{"L1 is the refcount table", "v3", func(v *victim) { v.u64(40, v.get(48)) }, "used already"},
	{"refcount block reserved bits", "v3", func(v *victim) { v.u64(v.q.h.refcountTable, v.get(v.q.h.refcountTable)|1) }, "refcount block"},
	{"refcount block outside", "v3", func(v *victim) { v.u64(v.q.h.refcountTable+8, v.end()) }, "refcount block"},
	{"refcount block twice", "v3", func(v *victim) { v.u64(v.q.h.refcountTable+8, v.get(v.q.h.refcountTable)) }, "used already"},

	// L2 entries.
	{"L2 reserved low bits", "v3", func(v *victim) { v.u64(v.l2(0), v.get(v.l2(0))|2) }, "reserved bits"},
	{"L2 reserved high bits", "v3", func(v *victim) { v.u64(v.l2(5), 1<<61) }, "reserved bits"},
	{"zero flag in version 2", "v2", func(v *victim) { v.u64(v.l2(5), 1) }, "reserved bits"},
	{"zero flag with subclusters", "extended", func(v *victim) { v.u64(v.l2(5), 1) }, "reserved bits"},
	{"data not aligned", "v3", func(v *victim) { v.u64(v.l2(1), v.get(v.l2(1))+512) }, "beginning"},
	{"data is the header", "v3", func(v *victim) { v.u64(v.l2(1), copied) }, "refers to the header"},
	{"data outside", "v3", func(v *victim) { v.u64(v.l2(5), v.end()|copied) }, "lies outside the file"},
	{"data far outside", "v3", func(v *victim) { v.u64(v.l2(5), 1<<55) }, "lies outside the file"},
	{"truncated file", "v3", func(v *victim) {
		v.bytes = append([]byte(nil), v.bytes[:v.get(v.l2(2))&hostMask]...)
	}, "outside the file"},
	{"preallocated zeros outside", "v3", func(v *victim) { v.u64(v.l2(5), v.end()|zeroFlag) }, "lies outside the file"},
	{"data twice", "v3", func(v *victim) { v.copyEntry(1, 5) }, "used already"},
	{"data twice, in two tables", "v3", func(v *victim) { v.copyEntry(1, 2*v.q.h.tableSpan()/4096+1) }, "used already"},
	{"data also preallocated", "v3", func(v *victim) { v.u64(v.l2(5), v.get(v.l2(1))|zeroFlag) }, "used already"},
	{"data is L1", "v3", func(v *victim) { v.u64(v.l2(5), v.get(40)) }, "used already"},
	{"data is its L2 table", "v3", func(v *victim) { v.u64(v.l2(5), v.get(v.l1(0))) }, "used already"},
	{"data is a later L2 table", "v3", func(v *victim) { v.u64(v.l2(5), v.get(v.l1(2))) }, "used already"},
	{"data is compressed data", "v3", func(v *victim) {
		v.u64(v.l2(25), uint64(v.packedAt(10)&^4095))
	}, "used already"},
	{"compressed data is data", "v3", func(v *victim) { v.u64(v.l2(11), packed|v.get(v.l2(1))&hostMask) }, "used already"},
	{"subclusters data and zero", "extended", func(v *victim) { v.u64(v.l2(1)+8, 1|1<<32) }, "data and zero at once"},
	{"subclusters without data", "extended", func(v *victim) { v.u64(v.l2(5)+8, 1) }, "data nowhere"},
	{"subclusters of compressed", "extended", func(v *victim) { v.u64(v.l2(10)+8, 1<<32) }, "compressed cluster has the copied flag"},
	{"unused cluster outside", "extended", func(v *victim) { v.u64(v.l2(5), v.end()) }, "lies outside the file"},

	// Compressed clusters.
	{"compressed and copied", "v3", func(v *victim) { v.u64(v.l2(10), v.get(v.l2(10))|copied) }, "copied flag"},
	{"compressed in the header", "v3", func(v *victim) { v.u64(v.l2(10), packed|200) }, "overlaps the header"},
	{"compressed outside", "v3", func(v *victim) { v.u64(v.l2(10), packed|v.end()) }, "outside the file"},
	{"compressed far outside", "v3", func(v *victim) { v.u64(v.l2(10), packed|1<<57) }, "outside the file"},
	{"compressed past the end", "v3", func(v *victim) {
		v.u64(v.l2(10), packed|15<<58|uint64(len(v.bytes)-1)/512*512)
	}, "ends outside the file"},
	{"compressed twice", "v3", func(v *victim) { v.copyEntry(10, 13) }, "overlap"},
	{"compressed one byte on", "v3", func(v *victim) { v.u64(v.l2(13), v.get(v.l2(10))+1) }, "overlap"},
	{"compressed zstd one byte on", "zstd", func(v *victim) { v.u64(v.l2(13), v.get(v.l2(10))+1) }, "overlap"},
	{"compressed in a longer one", "v3", func(v *victim) {
		first := v.l2(10) // of those in the same sector
		for i := int64(11); i < 13; i++ {
			if v.get(v.l2(i)) < v.get(first) {
				first = v.l2(i)
			}
		}
		v.u64(first, v.get(first)+1<<58)
	}, "overlap"},
	{"damaged zlib", "v3", func(v *victim) { v.bytes[v.packedAt(10)] ^= 0x06 }, "compressed cluster there"},
	{"damaged zstd", "zstd", func(v *victim) { v.bytes[v.packedAt(10)] ^= 0x06 }, "no zstd frame"},
	{"too much zlib", "v3", func(v *victim) { v.put(10, deflated(4097)) }, "more than a cluster"},
	{"too little zlib", "v3", func(v *victim) { v.put(10, deflated(4095)) }, "after 4095 of 4096 bytes"},
	{"zlib without an end", "v3", func(v *victim) { p := deflated(4096); v.put(10, p[:len(p)-5]) }, "compressed cluster there"},
	{"zlib bomb", "v3", func(v *victim) { v.put(10, deflated(200<<10)) }, "more than a cluster"},
	{"too much zstd", "zstd", func(v *victim) { v.put(10, zstdFrame(4097)) }, "more than a cluster"},
	{"too little zstd", "zstd", func(v *victim) { v.put(10, zstdFrame(4095)) }, "4095 of 4096 bytes"},
	{"zstd bomb", "zstd", func(v *victim) { v.put(10, zstdFrame(100<<20)) }, "more than a cluster"},
	{"zstd bomb that tells its size", "zstd", func(v *victim) { v.put(10, zstdSized(1<<40)) }, "more than a cluster"},
	{"zstd without an end", "zstd", func(v *victim) { p := zstdFrame(4096); p[6] &^= 1; v.put(10, p) }, "unexpected EOF"},
	{"skippable zstd", "zstd", func(v *victim) { v.put(10, []byte{0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0}) }, "skippable"},
}

// TestHostile spoils good images in one way each. None gets past Check and a read
// of everything, each error says what is wrong and is of one of the two sorts.
func TestHostile(t *testing.T) {
	good := victims(t)
	for name, p := range good {
		if err := readAll(p); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for _, x := range hostile {
		t.Run(x.name, func(t *testing.T) {
			v := &victim{bytes: bytes.Clone(good[x.base])}
			v.q, _ = Open(bytes.NewReader(good[x.base]), int64(len(v.bytes)))
			x.spoil(v)
			err := readAll(v.bytes)
			if err == nil {
				t.Fatal("accepted")
			}
			var format *FormatError
			if errors.As(err, &format) == errors.Is(err, ErrUnsupported) {
				t.Errorf("%v is of neither sort", err)
			}
			if !strings.Contains(err.Error(), x.want) {
				t.Errorf("%v; want %q", err, x.want)
			}
		})
	}
}

// readAll opens, checks, and reads the image, without stopping at the first error:
// what Check refuses must not be dangerous to read.
func readAll(p []byte) error {
	q, err := Open(bytes.NewReader(p), int64(len(p)))
	if err != nil {
		return err
	}
	err = q.Map(func(Mapping) error { return nil })
	buf := make([]byte, 3*q.ClusterSize()+512)
	for off := int64(0); off < q.Size(); off += int64(len(buf)) {
		if _, readErr := q.ReadAt(buf, off); err == nil && readErr != io.EOF {
			err = readErr
		}
	}
	return err
}

// TestBeyondEnd reads clusters that the file ends in as QEMU does.
func TestBeyondEnd(t *testing.T) {
	p := victims(t)["v3"]
	v := &victim{bytes: bytes.Clone(p)}
	v.q, _ = Open(bytes.NewReader(p), int64(len(p)))
	v.u64(v.l2(5), v.end()|copied)
	v.bytes = append(v.bytes[:len(v.bytes):len(v.bytes)], make([]byte, int(v.end())-len(v.bytes))...)
	v.bytes = append(v.bytes, bytes.Repeat([]byte{9}, 1000)...)
	path := filepath.Join(t.TempDir(), "q")
	if _, err := create(t, path, 0).Write(v.bytes); err != nil {
		t.Fatal(err)
	}
	want := rawContent(t, path, "qcow2")
	q := open(t, path)
	got := make([]byte, q.Size())
	if _, err := q.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("content differs: %v", err)
	}
	var tail []Mapping
	for _, m := range mappings(t, q) {
		if m.Offset >= 5*4096 && m.Offset < 6*4096 {
			tail = append(tail, m)
		}
	}
	host := int64(len(v.bytes)) - 1000
	if len(tail) != 2 || tail[0] != (Mapping{5 * 4096, 1000, Data, host}) || tail[1] != (Mapping{5*4096 + 1000, 3096, Zero, 0}) {
		t.Errorf("%v", tail)
	}
}
