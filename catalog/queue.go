package catalog

import "encoding/binary"

// Kinds of queue entries.
const (
	queueBorn = 1 // chunk records made by a commit
	queueDied = 2 // chunk records no image names any more
)

// A queue entry is the uvarint kind and then, to its end, runs of chunk
// numbers: uvarint first, uvarint count, ascending. The applier writes it in
// the batch that makes or unmakes the references; the accounts consume entries
// in order, and with an entry of the dead delete their chunk records.

func queueKey(n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{keyQueue}, n)
}

// chunkRun is count consecutive chunk numbers.
type chunkRun struct {
	first ChunkNo
	count uint64
}

// appendRun adds a number to runs; numbers come in ascending order.
func appendRun(runs []chunkRun, no ChunkNo) []chunkRun {
	if n := len(runs); n > 0 && runs[n-1].first+ChunkNo(runs[n-1].count) == no {
		runs[n-1].count++
		return runs
	}
	return append(runs, chunkRun{no, 1})
}

func appendQueue(b []byte, kind uint64, runs []chunkRun) []byte {
	b = binary.AppendUvarint(b, kind)
	for _, r := range runs {
		b = binary.AppendUvarint(b, uint64(r.first))
		b = binary.AppendUvarint(b, r.count)
	}
	return b
}
