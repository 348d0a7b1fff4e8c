package catalog

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// refPage is how many chunks a page of references covers: numbers
// page*refPage … page*refPage+refPage-1.
const refPage = 512

// refCounts are the references of one page.
type refCounts [refPage]int64

func refsKey(page uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{keyRefs}, page)
}

// appendRefs encodes a page: runs of equal counts, each as how many chunks and
// the count, until all are covered.
func appendRefs(b []byte, counts *refCounts) []byte {
	for i := 0; i < refPage; {
		n := 1
		for i+n < refPage && counts[i+n] == counts[i] {
			n++
		}
		b = binary.AppendUvarint(b, uint64(n))
		b = binary.AppendUvarint(b, uint64(counts[i]))
		i += n
	}
	return b
}

func decodeRefs(b []byte, counts *refCounts) error {
	d := decoder{b: b}
	for i := 0; i < refPage; {
		n, count := int(d.size(uint64(refPage-i))), d.int64()
		if n == 0 || d.bad {
			return errDecode
		}
		for range n {
			counts[i] = count
			i++
		}
	}
	return d.end()
}

// getRefs reads a page; one that is not there is all zeros.
func getRefs(r pebble.Reader, page uint64, counts *refCounts) error {
	v, closer, err := r.Get(refsKey(page))
	if errors.Is(err, pebble.ErrNotFound) {
		*counts = refCounts{}
		return nil
	}
	what := fmt.Sprintf("the references to chunks %d to %d", page*refPage, page*refPage+refPage-1)
	if err != nil {
		return unreadable(what, err)
	}
	defer closer.Close()
	if err := decodeRefs(v, counts); err != nil {
		return damaged(what, err)
	}
	return nil
}

// refReader reads reference counts: how many times the chunk lists of all
// images of points not forgotten (live, trashed, removed) name a chunk. An
// image that names a chunk twice counts twice. It is not for concurrent use.
type refReader struct {
	r     pebble.Reader
	pages map[uint64]*refCounts
}

func newRefReader(r pebble.Reader) *refReader {
	return &refReader{r: r, pages: map[uint64]*refCounts{}}
}

// count returns 0 for a chunk that is dead or was never recorded.
func (p *refReader) count(no ChunkNo) (uint64, error) {
	page := uint64(no) / refPage
	counts := p.pages[page]
	if counts == nil {
		if len(p.pages) >= refPagesCached {
			clear(p.pages)
		}
		counts = new(refCounts)
		if err := getRefs(p.r, page, counts); err != nil {
			return 0, err
		}
		p.pages[page] = counts
	}
	return uint64(counts[no%refPage]), nil
}
