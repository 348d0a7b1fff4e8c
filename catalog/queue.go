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
