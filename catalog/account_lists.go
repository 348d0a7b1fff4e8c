package catalog

import "github.com/strongroom-backup/strongroom/dedup"

// listReader goes through an encoded chunk list run by run. At its end, and
// after damage, it gives zeros without end.
type listReader struct {
	d    decoder
	left uint64 // chunks not yet read
	due  ChunkNo
	ok   bool

	first ChunkNo // of what is left of the run at hand; 0: zeros
	n     uint64  // how much is left of it
}

func newListReader(b []byte) *listReader {
	r := &listReader{d: decoder{b: b}, ok: true}
	if b != nil {
		r.left = r.d.size(maxChunks)
	}
	return r
}

// fill reads the next run if nothing is left of the last.
func (r *listReader) fill() {
	if r.n > 0 || r.left == 0 {
		return
	}
	head := r.d.uvarint()
	n := head >> 1
	if n == 0 || n > r.left {
		r.fail()
		return
	}
	first := ChunkNo(0)
	if head&1 == 0 {
		first = r.due + ChunkNo(r.d.varint())
		if first == 0 || first > maxChunkNo || n > uint64(maxChunkNo-first)+1 {
			r.fail()
			return
		}
		r.due = first + ChunkNo(n)
	}
	r.first, r.n, r.left = first, n, r.left-n
}

func (r *listReader) fail() { r.left, r.n, r.ok = 0, 0, false }

// take skips k chunks of the run at hand.
func (r *listReader) take(k uint64) {
	if r.n == 0 {
		return
	}
	if r.n -= k; r.first != 0 {
		r.first += ChunkNo(k)
	}
}

// number is that of the first chunk at hand.
func (r *listReader) number() ChunkNo {
	if r.n == 0 {
		return 0
	}
	return r.first
}

func (r *listReader) err() error {
	if !r.ok || r.d.bad || r.left == 0 && r.n == 0 && len(r.d.b) > 0 {
		return errDecode
	}
	return nil
}

// diffLists calls visit for the places of a disk where list b says another
// chunk than list a: at n places from one on a has the chunks from old on, and b
// those from now on, 0 standing for zeros. A list that is nil is that of a disk
// of zeros.
func diffLists(a, b []byte, visit func(place uint64, old, now ChunkNo, n uint64)) error {
	x, y := newListReader(a), newListReader(b)
	for place := uint64(0); ; {
		x.fill()
		y.fill()
		if x.n == 0 && y.n == 0 {
			if err := x.err(); err != nil {
				return err
			}
			return y.err()
		}
		k := max(x.n, y.n)
		if x.n > 0 && y.n > 0 {
			k = min(x.n, y.n)
		}
		if old, now := x.number(), y.number(); old != now {
			visit(place, old, now, k)
		}
		x.take(k)
		y.take(k)
		place += k
	}
}

// blockBytes is dedup.BlockSize as the accounts count.
const blockBytes = int64(dedup.BlockSize)
