package qcow2

import (
	"bytes"
	"encoding/binary"

	"github.com/klauspost/compress/flate"
)

// put makes p, and nothing behind it, the compressed content of a cluster of the
// disk: in a new place, so that there is room.
func (v *victim) put(cluster int64, p []byte) {
	shift := 58 // of 4 KiB clusters
	at := v.end()
	sectors := uint64(divUp(int64(len(p)), sectorSize))
	v.u64(v.l2(cluster), packed|(sectors-1)<<shift|at)
	v.bytes = append(v.bytes, make([]byte, int(at)-len(v.bytes))...)
	v.bytes = append(v.bytes, p...)
}

// deflated is a raw deflate stream of n equal bytes.
func deflated(n int) []byte {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, 9)
	if err == nil {
		_, err = w.Write(bytes.Repeat([]byte{5}, n))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(err)
	}
	return b.Bytes()
}

// zstdFrame is a zstd frame of n equal bytes, that does not tell how many: blocks
// of a byte to be repeated.
func zstdFrame(n int) []byte {
	const longest = 128 << 10
	p := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0x58} // window of 2 MiB
	for n > 0 {
		size := min(n, longest)
		n -= size
		last := 0
		if n == 0 {
			last = 1
		}
		block := size<<3 | 1<<1 | last
		p = append(p, byte(block), byte(block>>8), byte(block>>16), 5)
	}
	return p
}

// zstdSized is a frame that says it has n bytes.
func zstdSized(n uint64) []byte {
	p := []byte{0x28, 0xb5, 0x2f, 0xfd, 0xc0, 0x58}
	p = binary.LittleEndian.AppendUint64(p, n)
	return append(p, zstdFrame(4096)[6:]...)
}
