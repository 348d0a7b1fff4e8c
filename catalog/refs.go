package catalog

import (
	"encoding/binary"

	"github.com/cockroachdb/pebble/v2"
)

// refPage is how many chunks a page of references covers: numbers
// page*refPage … page*refPage+refPage-1.
const refPage = 512

func refsKey(page uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{keyRefs}, page)
}

// refReader reads reference counts: how many times the chunk lists of all
// images of points not forgotten (live, trashed, removed) name a chunk. An
// image that names a chunk twice counts twice. It is not for concurrent use.
type refReader struct {
	r pebble.Reader
}

func newRefReader(r pebble.Reader) *refReader { return &refReader{r: r} }

// count returns 0 for a chunk that is dead or was never recorded. Asking in
// order of the numbers reads every page once.
func (p *refReader) count(no ChunkNo) (uint64, error) { return 0, errUnfinished }
