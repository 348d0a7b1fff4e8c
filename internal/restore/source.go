package restore

import (
	"github.com/strongroom-backup/strongroom/internal/nbdclient"
)

// Source is a disk that is read: by many at once, in parts of at most
// requestBytes. ReadAt fills p or fails; Extents tells what is zeros, in order and
// without gaps. *nbdclient.Conn is one.
type Source interface {
	Size() int64
	ReadAt(p []byte, off int64) (int, error)
	Extents(yield func(nbdclient.Extent) error) error
}

// blockExtents calls yield for the source's extents widened to blocks: a block is
// zeros when all of it is; fewer zeros than least in front of data count as data.
// Neighbours differ, and the last one ends at the disk's end.
func blockExtents(src Source, least int64, yield func(nbdclient.Extent) error) error {
	size := src.Size()
	var data nbdclient.Extent // widened, and not yielded yet
	flush := func(next int64) error {
		end := data.Offset + data.Length
		if data.Length > 0 {
			if err := yield(data); err != nil {
				return err
			}
		}
		if next > end {
			return yield(nbdclient.Extent{Offset: end, Length: next - end, Zero: true})
		}
		return nil
	}
	err := src.Extents(func(e nbdclient.Extent) error {
		if e.Zero {
			return nil
		}
		from, to := e.Offset/BlockSize*BlockSize, min(size, (e.Offset+e.Length+BlockSize-1)/BlockSize*BlockSize)
		if end := data.Offset + data.Length; data.Length == 0 && from < least {
			data = nbdclient.Extent{Length: to}
		} else if from-end >= max(least, 1) {
			if err := flush(from); err != nil {
				return err
			}
			data = nbdclient.Extent{Offset: from, Length: to - from}
		} else {
			data.Length = to - data.Offset
		}
		return nil
	})
	if err != nil {
		return err
	}
	return flush(size)
}

// hashedSource hashes what is read of a source, and the zeros it tells of. All
// data must be read exactly once, in whole blocks.
type hashedSource struct {
	Source
	hasher *ContentHasher
	least  int64 // zeros that are not data
}

// longZeros are more than a VMA archive's writer reads with the data around them.
const longZeros = 2 * requestBytes

func (s *hashedSource) Extents(yield func(nbdclient.Extent) error) error {
	return blockExtents(s.Source, s.least, func(e nbdclient.Extent) error {
		if e.Zero {
			s.hasher.Zero(e.Offset, e.Length)
		}
		return yield(e)
	})
}

func (s *hashedSource) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.Source.ReadAt(p, off)
	if n == len(p) {
		s.hasher.Write(p, off)
	}
	return n, err
}
