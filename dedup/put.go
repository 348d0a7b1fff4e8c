package dedup

import (
	"fmt"
)

// Put stores data, a multiple of BlockSize long, and sets out[i] to the address
// of block i; len(out) is the number of blocks. hints may be nil; else hints[i],
// when not 0, is the address of what a related image has at the same place and
// is tried first.
//
// When Put returns, every address's data is with the kernel: it survives the
// death of the process, and after the next Sync a power cut. data, hints and
// out are not kept. After an error out is of no use, though blocks may have
// been stored. ENOSPC is wrapped when the reserve would be touched.
//
// The work is done on the caller's goroutine; call it from several at once.
func (w *Writer) Put(data []byte, hints, out []Addr) (PutResult, error) {
	var sum PutResult
	if len(data)%BlockSize != 0 || len(out) != len(data)/BlockSize || hints != nil && len(hints) != len(out) {
		return sum, fmt.Errorf("dedup: Put of %d bytes with %d hints into %d addresses", len(data), len(hints), len(out))
	}
	b := w.s.batches.Get().(*batch)
	defer func() {
		b.begin(nil, nil, nil) // keeps nothing of the caller's
		w.s.batches.Put(b)
	}()
	for len(out) > 0 {
		if err := w.check(); err != nil {
			return sum, err
		}
		n := min(len(out), batchBlocks)
		b.begin(w, data[:n*BlockSize], out[:n])
		if hints != nil {
			b.hints, hints = hints[:n], hints[n:]
		}
		err := b.run()
		sum.Add(b.res)
		w.s.count.addPut(&b.res)
		if err != nil {
			return sum, err
		}
		data, out = data[n*BlockSize:], out[n:]
	}
	w.s.putAt.Store(monotonic())
	return sum, nil
}
