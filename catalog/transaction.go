package catalog

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"github.com/strongroom-backup/strongroom/dedup"
)

// transaction is a point with everything that is recorded beside it.
type transaction struct {
	point Point
	lists [][]ChunkNo // of point.Files, then of point.Images
	first ChunkNo     // number of chunks[0]
	news  []*Chunk
	blobs []Blob // of point.Blobs
}

// newTransaction sorts what n brings; images and files get their roots from resolve.
func newTransaction(n *NewPoint) *transaction {
	t := &transaction{point: Point{ID: n.ID, VM: n.VM, Start: n.Start.UTC().Truncate(time.Millisecond), Labels: n.Labels,
		Attributes: Attributes{Manual: n.Manual, Sealed: n.Sealed}}}
	t.blobs = slices.SortedFunc(slices.Values(n.Blobs), func(a, b Blob) int { return strings.Compare(a.Name, b.Name) })
	for _, b := range t.blobs {
		t.point.Blobs = append(t.point.Blobs, BlobInfo{Name: b.Name, Size: int64(len(b.Data)), Hash: sha256.Sum256(b.Data)})
	}
	return t
}

// resolve numbers the chunks of every image and computes the roots.
func (t *transaction) resolve(p *NewPoint, n *numberer, root func(int64, []dedup.Hash) dedup.Hash) error {
	t.first = n.next
	order := slices.Clone(p.Images)
	for i := range p.Files {
		order = append(order, NewImage{p.Files[i].entry(), p.Files[i].Chunks})
	}
	slices.SortFunc(order, func(a, b NewImage) int { return strings.Compare(a.Disk, b.Disk) })
	for i := range order {
		im := &order[i]
		list, hashes, err := n.image(im)
		if err != nil {
			return err
		}
		im.Root = root(im.Size, hashes)
		if err := t.point.addEntry(im.Image); err != nil {
			return err
		}
		t.lists = append(t.lists, list)
	}
	t.news = n.news
	return nil
}

// records calls visit for every record of the transaction, in the same order
// and with the same bytes each time; a payload is valid during the call.
func (t *transaction) records(visit visitor) error {
	var b []byte
	for i, c := range t.news {
		b = binary.AppendUvarint(b[:0], uint64(t.first)+uint64(i))
		b = appendChunk(b, c)
		if err := visit(recChunk, b); err != nil {
			return err
		}
	}
	parts := t.point.parts()
	for i, list := range t.lists {
		b = t.appendPart(b[:0], parts[i])
		b = appendChunkList(b, list)
		if err := visit(recImage, b); err != nil {
			return err
		}
	}
	for _, f := range t.blobs {
		b = t.appendPart(b[:0], f.Name)
		b = append(b, f.Data...)
		if err := visit(recBlob, b); err != nil {
			return err
		}
	}
	if err := visit(recPoint, appendPoint(b[:0], &t.point)); err != nil || t.point.Attributes == (Attributes{}) {
		return err
	}
	return (&described{t.point.ID, t.point.Attributes}).records(visit)
}

// appendPart encodes what an image or blob record begins with.
func (t *transaction) appendPart(b []byte, name string) []byte {
	return appendString(appendString(b, t.point.ID), name)
}
