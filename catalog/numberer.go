package catalog

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/strongroom-backup/strongroom/dedup"
)

// numberer gives the chunks of a point being committed their numbers and looks
// up the hashes of those that have one.
type numberer struct {
	db   *pebble.DB
	it   *pebble.Iterator
	at   ChunkNo // where it stands; 0: nowhere
	next ChunkNo // for the next new chunk
	refs *refReader
	own  map[dedup.Hash]ChunkNo
	news []*Chunk // numbered next-len(news) … next-1
}

func newNumberer(db *pebble.DB, next ChunkNo) (*numberer, error) {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{keyChunk}, UpperBound: []byte{keyChunk + 1}})
	if err != nil {
		return nil, err
	}
	return &numberer{db: db, it: it, next: next, refs: newRefReader(db), own: map[dedup.Hash]ChunkNo{}}, nil
}

// image returns the numbers and hashes of all chunks of a disk.
func (n *numberer) image(im *NewImage) ([]ChunkNo, []dedup.Hash, error) {
	list, hashes := make([]ChunkNo, len(im.Chunks)), make([]dedup.Hash, len(im.Chunks))
	for i, ref := range im.Chunks {
		var err error
		if ref.New != nil {
			list[i], hashes[i], err = n.add(ref.New)
		} else {
			list[i] = ref.No
			hashes[i], err = n.known(ref.No, chunkLength(im.Size, i))
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%s, chunk %d: %w", partName(im.Disk), i, err)
		}
	}
	return list, hashes, nil
}

// add numbers a chunk unless one of its hash has a number.
func (n *numberer) add(c *Chunk) (ChunkNo, dedup.Hash, error) {
	if len(c.Runs) == 0 {
		return 0, dedup.Hash{}, nil
	}
	no, ok := n.own[c.Hash]
	if ok {
		return no, c.Hash, nil
	}
	no, err := chunkByHash(n.db, chunkHashKey(c.Hash))
	if err != nil {
		return 0, c.Hash, err
	}
	if no != 0 {
		h, err := n.known(no, c.Length)
		if err == nil && h != c.Hash {
			err = damaged(fmt.Sprintf("chunk %d", no), fmt.Errorf("its hash is %x, it was found as %x", h, c.Hash))
		}
		return no, h, err
	}
	if n.next > maxChunkNo {
		return 0, c.Hash, fmt.Errorf("all chunk numbers are used up")
	}
	no = n.next
	n.next++
	n.own[c.Hash] = no
	n.news = append(n.news, c)
	return no, c.Hash, nil
}

// alive refuses chunks no image names any more: their blocks may be gone.
func (n *numberer) alive(no ChunkNo) error {
	count, err := n.refs.count(no)
	if err == nil && count == 0 {
		err = fmt.Errorf("chunk %d %w: the points that had it were removed", no, ErrNotFound)
	}
	return err
}

// known returns the hash of a recorded chunk, which must cover length bytes.
// Images name their chunks mostly in order: then it is one step of an iterator.
func (n *numberer) known(no ChunkNo, length uint32) (dedup.Hash, error) {
	if no == 0 {
		return dedup.Hash{}, nil
	}
	found := false
	if n.at != 0 && no == n.at+1 {
		found = n.it.Next()
	} else {
		found = n.it.SeekGE(chunkKey(no))
	}
	n.at = 0
	if !found || binary.BigEndian.Uint64(n.it.Key()[1:]) != uint64(no) {
		if err := n.it.Error(); err != nil {
			return dedup.Hash{}, missing(err, "chunk %d", no)
		}
		return dedup.Hash{}, fmt.Errorf("chunk %d %w", no, ErrNotFound)
	}
	n.at = no
	v, err := n.it.ValueAndErr()
	if err != nil {
		return dedup.Hash{}, missing(err, "chunk %d", no)
	}
	h, have, err := decodeChunkHead(v)
	switch {
	case err != nil:
		return h, damaged(fmt.Sprintf("chunk %d", no), err)
	case have != length:
		return h, invalid("chunk %d covers %d bytes, this place takes %d: record it anew", no, have, length)
	}
	return h, n.alive(no)
}
