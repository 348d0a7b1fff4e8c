package qcow2

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync/atomic"
)

// Kind says what a piece of a disk is in one qcow2 file.
type Kind uint8

const (
	// Unallocated: the file says nothing of it; the backing file's content shows
	// through, or zeros when there is none.
	Unallocated Kind = iota
	// Zero: the file says that it reads as zeros.
	Zero
	// Data: its bytes are in the file as they are.
	Data
	// Compressed: its bytes are in the file, compressed cluster by cluster.
	Compressed
)

func (k Kind) String() string {
	if k > Compressed {
		return fmt.Sprintf("kind %d", uint8(k))
	}
	return [...]string{"unallocated", "zero", "data", "compressed"}[k]
}

// Mapping is a piece of the disk of one kind.
type Mapping struct {
	Offset, Length int64 // bytes of the disk
	Kind           Kind
	Host           int64 // of Data: where its first byte is in the file; else 0
}

// Reader reads a qcow2 file. It is safe for concurrent use if the file is, and
// never panics or reads outside the file, even if the file changes under it.
type Reader struct {
	file     io.ReaderAt
	fileSize int64
	h        *header
	tables   *pages
	unpack   *unpacker
	recent   unpacked
	checked  atomic.Bool
}

// Open reads and checks the header of the file, which has size bytes. Nothing
// else is read yet: see Check. Errors are those of r, *FormatError, or wrap
// ErrUnsupported.
func Open(r io.ReaderAt, size int64) (*Reader, error) {
	h, err := readHeader(r, max(size, 0))
	if err != nil {
		return nil, err
	}
	page := min(max(h.ClusterSize, pageMin), pageMax)
	return &Reader{
		file: r, fileSize: size, h: h,
		tables: newPages(r, size, page),
		unpack: newUnpacker(h.Compression, h.ClusterSize),
	}, nil
}

// Size is the length of the disk in bytes.
func (q *Reader) Size() int64 { return q.h.size }

// ClusterSize is the unit of allocation in bytes.
func (q *Reader) ClusterSize() int64 { return q.h.ClusterSize }

// Backing returns the name and the format of the backing file. Each is empty
// when the file does not tell.
func (q *Reader) Backing() (name, format string) { return q.h.BackingName, q.h.BackingFormat }

// Info returns what the header says.
func (q *Reader) Info() Info { return q.h.Info }

// visitor is told what a scan finds, in the order of the disk. The errors it
// returns end the scan. at is the place in the file of the entry that says so.
type visitor struct {
	hole    func(off, n int64) error // no L2 table, or empty entries of one
	table   func(at, host int64) error
	cluster func(c cluster, at, off, n int64) error // n bytes from off on, of one cluster
}

// scan visits the tables and clusters for the bytes of the disk from off to end.
func (q *Reader) scan(off, end int64, v visitor) error {
	span := q.h.tableSpan()
	for off < end {
		at := q.h.l1 + off/span*8
		raw, err := q.tables.from(at)
		if err != nil {
			return err
		}
		for ; len(raw) >= 8 && off < end; raw, at = raw[8:], at+8 {
			table, err := q.decodeL1(binary.BigEndian.Uint64(raw), at)
			if err != nil {
				return err
			}
			stop := min(end, off-off%span+span)
			if table == 0 {
				err = v.hole(off, stop-off)
			} else if err = v.table(at, table); err == nil {
				err = q.scanTable(table, off, stop, v)
			}
			if err != nil {
				return err
			}
			off = stop
		}
	}
	return nil
}

// scanTable visits the clusters of one L2 table. Runs of empty entries are holes.
func (q *Reader) scanTable(table, off, end int64, v visitor) error {
	size, entry := q.ClusterSize(), q.h.entrySize()
	for off < end {
		at := table + off/size*entry%size
		raw, err := q.tables.from(at)
		if err != nil {
			return err
		}
		for int64(len(raw)) >= entry && off < end {
			n := emptyWords(raw) * 8 / entry
			stop := min(end, off-off%size+max(n, 1)*size)
			if n > 0 {
				err = v.hole(off, stop-off)
			} else {
				n = 1
				var c cluster
				if c, err = q.decodeL2(raw, at); err == nil {
					err = v.cluster(c, at, off, stop-off)
				}
			}
			if err != nil {
				return err
			}
			raw, at, off = raw[n*entry:], at+n*entry, stop
		}
	}
	return nil
}

// emptyWords counts the words of eight zero bytes at the beginning of p.
func emptyWords(p []byte) (n int64) {
	for ; len(p) >= 8 && binary.NativeEndian.Uint64(p) == 0; p = p[8:] {
		n++
	}
	return n
}

// pieces visits the disk from off to end in pieces of one kind within a
// cluster; of a Compressed one c tells where it is. What is mapped to the file
// but beyond its end is Zero.
func (q *Reader) pieces(off, end int64, visit func(m Mapping, c cluster) error) error {
	sub := q.ClusterSize() / subclusters
	return q.scan(off, end, visitor{
		hole:  func(off, n int64) error { return visit(Mapping{off, n, Unallocated, 0}, cluster{}) },
		table: func(int64, int64) error { return nil },
		cluster: func(c cluster, at, off, n int64) error {
			for n > 0 {
				in := off % q.ClusterSize()
				i := int(in / sub)
				kind, run := c.part(i)
				m := Mapping{Offset: off, Length: min(n, int64(i+run)*sub-in), Kind: kind}
				if kind == Data {
					m.Host = c.host + in
					m = q.inFile(m)
				}
				if err := visit(m, c); err != nil {
					return err
				}
				off, n = off+m.Length, n-m.Length
			}
			return nil
		},
	})
}

// inFile shortens a Data mapping to what is in the file. If nothing is, it is
// Zero.
func (q *Reader) inFile(m Mapping) Mapping {
	switch rest := q.fileSize - m.Host; {
	case rest <= 0:
		m.Kind, m.Host = Zero, 0
	case rest < m.Length:
		m.Length = rest
	}
	return m
}

// Map calls yield for the whole disk, from its beginning to its end and without
// gaps, after a Check has found nothing wrong. Neighbours of one kind come as one
// mapping, of Data if they are neighbours in the file as well; subclusters are
// resolved. Data lies in the file entirely: the rest of a last cluster that the
// file ends in is Zero. If yield fails, Map ends with its error.
func (q *Reader) Map(yield func(Mapping) error) error { return q.MapRange(0, q.Size(), yield) }

// MapRange is Map for the disk from off to end, which must lie in it.
func (q *Reader) MapRange(off, end int64, yield func(Mapping) error) error {
	if err := q.Check(); err != nil {
		return err
	}
	var last Mapping
	err := q.pieces(off, end, func(m Mapping, _ cluster) error {
		if m.Kind == last.Kind && (m.Kind != Data || m.Host == last.Host+last.Length) {
			last.Length += m.Length
			return nil
		}
		before := last
		last = m
		if before.Length == 0 {
			return nil
		}
		return yield(before)
	})
	if err != nil || last.Length == 0 {
		return err
	}
	return yield(last)
}

// ReadAt reads bytes of the disk; what is unallocated reads as zeros. It needs no
// Check. Errors are as of Open; compressed clusters which do not hold just a
// cluster are *FormatErrors.
func (q *Reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read at %d of a qcow2 disk: the offset is negative", off)
	}
	whole := len(p)
	p = p[:min(int64(len(p)), max(0, q.Size()-off))]
	if err := q.read(p, off); err != nil {
		return 0, err
	}
	if len(p) < whole {
		return len(p), io.EOF
	}
	return len(p), nil
}

// read fills p. Data that is contiguous in the file is read at once.
func (q *Reader) read(p []byte, off int64) error {
	var data Mapping // to be read
	flush := func() error {
		if data.Length == 0 {
			return nil
		}
		at := data.Offset - off
		err := readFull(q.file, p[at:at+data.Length], data.Host)
		data.Length = 0
		return err
	}
	err := q.pieces(off, off+int64(len(p)), func(m Mapping, c cluster) error {
		if m.Kind == Data && data.Length > 0 && m.Host == data.Host+data.Length {
			data.Length += m.Length
			return nil
		}
		if err := flush(); err != nil {
			return err
		}
		to := p[m.Offset-off:][:m.Length]
		switch m.Kind {
		case Data:
			data = m
		case Compressed:
			return q.readPacked(to, c, m.Offset%q.ClusterSize())
		default:
			clear(to)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}
