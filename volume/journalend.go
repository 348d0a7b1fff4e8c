package volume

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// errJournal is a journal that has lost acknowledged records.
var errJournal = errors.New("the journal is damaged, writes are lost")

// pageBytes is what the kernel takes of a write at a time at least: a write that
// a kill interrupted ends at such a place of the file.
const pageBytes = 4096

// checkEnd tells the end of a journal, where replay found no valid record, from
// damage. known is how many records there must be.
//
// After the death of the process alone nothing is there but a record that was
// being written, the first pages of it. After a restart of the host, whatever
// was not synced may have become anything, in any order; but a clean mark that
// comes later says that everything before it was synced. A clone's marks say what
// was synced before they were written.
func (j *journal) checkEnd(sameBoot bool, known uint64) error {
	if j.seq < known {
		return fmt.Errorf("%w: it has %d records of %d", errJournal, j.seq, known)
	}
	info, err := j.file.Stat()
	if err != nil {
		return err
	}
	if sameBoot {
		return j.checkTorn(info.Size())
	}
	return j.checkMarks(info.Size())
}

// checkTorn wants the first pages of a record at the end, or nothing.
func (j *journal) checkTorn(size int64) error {
	last, err := j.lastByte(size)
	if err != nil || last == j.end {
		return err
	}
	var h [recordHeaderSize]byte
	if _, err := j.file.ReadAt(h[:], j.end); err != nil && err != io.EOF {
		return err
	}
	need := j.end + recordHeaderSize // of the record that may be there
	if n := binary.LittleEndian.Uint32(h[:]); n <= maxRecord && seqOf(h[:]) == j.seq && h[5]|h[6]|h[7] == 0 {
		need += int64(n) + recordTrailerSize
	}
	if page := (last + pageBytes - 1) / pageBytes * pageBytes; page < need && page <= size {
		return nil
	}
	return fmt.Errorf("%w: what follows record %d, at byte %d, is neither a record nor the beginning of one", errJournal, j.seq, j.end)
}

// goesOn reports whether anything but zeros stands where the next record goes or
// behind it.
func (j *journal) goesOn() (bool, error) {
	info, err := j.file.Stat()
	if err != nil {
		return false, err
	}
	last, err := j.lastByte(info.Size())
	return last > j.end, err
}

// lastByte is the offset behind the last byte that is not zero.
func (j *journal) lastByte(size int64) (last int64, err error) {
	last = j.end
	err = j.eachWindow(size, 0, func(b []byte, at int64) {
		if rest := bytes.TrimRight(b, "\x00"); len(rest) > 0 {
			last = at + int64(len(rest))
		}
	})
	return last, err
}

// checkMarks wants no mark behind the end that says that what is missing was
// synced.
func (j *journal) checkMarks(size int64) error {
	found := false
	err := j.eachMark(size, recClean, 0, func(mark []byte) { found = true })
	if err == nil {
		err = j.eachMark(size, recMark, markPayload, func(mark []byte) {
			_, synced, err := decodeMark(mark[recordHeaderSize:recordHeaderSize+markPayload], seqOf(mark))
			found = found || err == nil && synced > j.seq
		})
	}
	if err == nil && found {
		err = fmt.Errorf("%w: record %d, at byte %d, is not valid, and a flush was acknowledged after it", errJournal, j.seq, j.end)
	}
	return err
}

// eachMark finds the records of a type and length of payload that come later than
// the one that is missing at the end.
func (j *journal) eachMark(size int64, t recordType, payload byte, use func(mark []byte)) error {
	head := []byte{payload, 0, 0, 0, byte(t), 0, 0, 0}
	n := recordHeaderSize + int(payload) + recordTrailerSize
	return j.eachWindow(size, int64(n-1), func(b []byte, _ int64) {
		for at := 0; ; at++ {
			i := bytes.Index(b[at:], head)
			if i < 0 || len(b)-at-i < n {
				return
			}
			at += i
			mark := b[at : at+n]
			body := mark[:n-recordTrailerSize]
			if seqOf(mark) > j.seq && binary.LittleEndian.Uint32(mark[len(body):]) == crc32.Update(j.seed, castagnoli, body) {
				use(mark)
			}
		}
	})
}

// eachWindow reads the file from the end of the records on, in pieces that
// overlap.
func (j *journal) eachWindow(size, overlap int64, use func(b []byte, at int64)) error {
	if size <= j.end {
		return nil
	}
	buf := make([]byte, min(size-j.end, maxRecord))
	for at := j.end; at < size; at += max(int64(len(buf))-overlap, 1) {
		n, err := j.file.ReadAt(buf, at)
		if err != nil && err != io.EOF {
			return fmt.Errorf("read the end of a session journal: %w", err)
		}
		use(buf[:n], at)
		if at+int64(n) >= size {
			break
		}
	}
	return nil
}
