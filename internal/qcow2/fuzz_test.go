package qcow2

import (
	"bytes"
	"encoding/binary"
	"io"
	"runtime/metrics"
	"testing"
)

// sectors is a file of which a fuzzer's input tells the sectors that are not
// zero: each two bytes with its number, big endian, and its 512 bytes.
type sectors struct {
	content map[int64][]byte
	size    int64
}

func parseSectors(p []byte) *sectors {
	s := &sectors{content: map[int64][]byte{}}
	for len(p) >= 2 {
		n := int64(binary.BigEndian.Uint16(p))
		sector := make([]byte, sectorSize)
		p = p[2+copy(sector, p[2:]):]
		s.content[n] = sector
		s.size = max(s.size, (n+1)*sectorSize)
	}
	return s
}

// formatSectors is the reverse, for corpora.
func formatSectors(file []byte) (p []byte) {
	for n := int64(0); n*sectorSize < int64(len(file)); n++ {
		sector := make([]byte, sectorSize)
		copy(sector, file[n*sectorSize:])
		if (n+1)*sectorSize >= int64(len(file)) || !isZero(sector) {
			p = append(binary.BigEndian.AppendUint16(p, uint16(n)), sector...)
		}
	}
	return p
}

func (s *sectors) ReadAt(p []byte, off int64) (int, error) {
	n := int(min(int64(len(p)), max(0, s.size-off)))
	for done := 0; done < n; {
		at := off + int64(done)
		part := p[done:min(n, done+int(sectorSize-at%sectorSize))]
		clear(part)
		if sector := s.content[at/sectorSize]; sector != nil {
			copy(part, sector[at%sectorSize:])
		}
		done += len(part)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// allocated is how many bytes this process has allocated so far.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// FuzzOpen opens, checks and maps a file of up to 32 MiB. However its header and
// its tables are, that ends, does not panic, and allocates no more than twice the
// file, for its tables, and 24 MiB.
func FuzzOpen(f *testing.F) {
	f.Fuzz(func(t *testing.T, p []byte) {
		file := parseSectors(p)
		before := allocated()
		q, err := Open(file, file.size)
		if err == nil {
			end := int64(0)
			err = q.Map(func(m Mapping) error {
				if m.Offset != end || m.Length <= 0 || m.Kind == Data && (m.Host <= 0 || m.Length > file.size-m.Host) {
					t.Fatalf("mapping %+v after %d in a file of %d bytes", m, end, file.size)
				}
				end = m.Offset + m.Length
				return nil
			})
			if err == nil && end != q.Size() {
				t.Fatalf("the mappings end at %d of %d", end, q.Size())
			}
		}
		if n := int64(allocated() - before); n > 2*file.size+24<<20 {
			t.Fatalf("%d bytes allocated for a file of %d", n, file.size)
		}
	})
}

// FuzzRead reads up to 256 KiB of the disk at once and in pieces, checked or not:
// both give the same, and data what is in the file.
func FuzzRead(f *testing.F) {
	f.Fuzz(func(t *testing.T, p []byte, off int64, n uint32) {
		file := parseSectors(p)
		q, err := Open(file, file.size)
		if err != nil || q.Size() == 0 {
			return
		}
		off = (off%q.Size() + q.Size()) % q.Size()
		whole := make([]byte, min(int64(n%(256<<10)), q.Size()-off))
		before := allocated()
		_, err = q.ReadAt(whole, off)
		if n := allocated() - before; n > 32<<20 {
			t.Fatalf("%d bytes allocated for %d", n, len(whole))
		}
		if err != nil {
			return
		}
		for at := 0; at < len(whole); at += 1000 {
			part := make([]byte, min(1000, len(whole)-at))
			if _, err := q.ReadAt(part, off+int64(at)); err != nil || !bytes.Equal(part, whole[at:at+len(part)]) {
				t.Fatalf("%d bytes at %d are not the same alone: %v", len(part), off+int64(at), err)
			}
		}
	})
}
