package catalog

import "encoding/binary"

// appendChunkList encodes the chunk numbers of an image: how many, then runs
// of consecutive numbers or of zeros, each as count<<1 (|1 for zeros) and, if
// not zeros, its first number less the one that would continue the last such
// run (zig-zag; the first run continues 0).
func appendChunkList(b []byte, list []ChunkNo) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	due := ChunkNo(0)
	for len(list) > 0 {
		n := listRun(list)
		if list[0] == 0 {
			b = binary.AppendUvarint(b, uint64(n)<<1|1)
		} else {
			b = binary.AppendUvarint(b, uint64(n)<<1)
			b = binary.AppendVarint(b, int64(list[0]-due))
			due = list[0] + ChunkNo(n)
		}
		list = list[n:]
	}
	return b
}

// listRun counts the zeros or the consecutive numbers list begins with.
func listRun(list []ChunkNo) int {
	step := ChunkNo(1)
	if list[0] == 0 {
		step = 0
	}
	n := 1
	for n < len(list) && list[n] == list[0]+ChunkNo(n)*step {
		n++
	}
	return n
}

// eachListRun calls visit for every run of an encoded chunk list: count
// consecutive numbers, or zeros if first is 0.
func eachListRun(b []byte, visit func(first ChunkNo, count uint64)) error {
	d := decoder{b: b}
	left := d.size(maxChunks)
	due := ChunkNo(0)
	for left > 0 && !d.bad {
		head := d.uvarint()
		n := head >> 1
		if n == 0 || n > left {
			return errDecode
		}
		left -= n
		if head&1 != 0 {
			visit(0, n)
			continue
		}
		first := due + ChunkNo(d.varint())
		if first == 0 || first > maxChunkNo || n > uint64(maxChunkNo-first)+1 {
			return errDecode
		}
		visit(first, n)
		due = first + ChunkNo(n)
	}
	return d.end()
}

func decodeChunkList(b []byte) ([]ChunkNo, error) {
	d := decoder{b: b}
	list := make([]ChunkNo, 0, d.size(maxChunks))
	err := eachListRun(b, func(first ChunkNo, n uint64) {
		if first == 0 {
			list = list[:uint64(len(list))+n] // new memory is zero
			return
		}
		for i := range ChunkNo(n) {
			list = append(list, first+i)
		}
	})
	return list, err
}
