package volume

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/dedup"
)

const journalCategory vfs.DiskWriteCategory = "strongroom-journal"

const (
	journalMagic      = "SRJRNL\x00\x01"
	journalVersion    = 1
	journalHeaderSize = 64
	recordHeaderSize  = 16
	recordTrailerSize = 4
)

// recordType is what a journal record says.
type recordType uint8

const (
	recMap   recordType = 1 // whole blocks now lie at these addresses
	recRaw   recordType = 2 // these bytes, less than a block, now stand here
	recZero  recordType = 3 // this byte range now reads as zeros
	recChunk recordType = 4 // everything known of one chunk (it leaves memory)
	recClean recordType = 5 // all before this is power-cut safe
	recDirty recordType = 6 // synced before the first acknowledgement after a recClean
	recFile  recordType = 7 // a file's length and attributes are these now
	recMark  recordType = 8 // in a clone: all before a number is power-cut safe
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errTorn marks the end of a journal's valid records.
var errTorn = errors.New("no valid record here")

// journal is the append-only file behind one disk of a session. It does no
// locking: disk.mu guards it.
type journal struct {
	file  vfs.File
	seed  uint32 // CRC state after the salt, so that client data cannot look like a record
	end   int64  // where the next record goes
	first uint64 // number of the first record
	seq   uint64 // number of the next record
	soil  int64  // up to here a write that failed may have left something
	buf   []byte
}

// createJournal makes an empty journal, synced. The caller syncs the directory.
// owner is whose it is, for openJournal; first is the number of its first record.
func createJournal(fs vfs.FS, path, owner string, diskSize int64, first uint64) (*journal, error) {
	f, err := fs.OpenReadWrite(path, journalCategory) // WriteAt needs it; it creates
	if err != nil {
		return nil, err
	}
	h := make([]byte, journalHeaderSize)
	copy(h, journalMagic)
	binary.LittleEndian.PutUint16(h[8:], journalVersion)
	binary.LittleEndian.PutUint64(h[16:], uint64(diskSize))
	rand.Read(h[24:40])
	binary.LittleEndian.PutUint32(h[40:], ownerSum(owner))
	binary.LittleEndian.PutUint64(h[44:], first)
	binary.LittleEndian.PutUint32(h[60:], crc32.Checksum(h[:60], castagnoli))
	if _, err = f.WriteAt(h, 0); err == nil {
		err = f.Sync()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create journal %s: %w", path, err), f.Close())
	}
	return newJournal(f, h), nil
}

// newJournal is a journal before its first record.
func newJournal(f vfs.File, h []byte) *journal {
	return &journal{
		file: f, seed: crc32.Checksum(h[24:40], castagnoli), end: journalHeaderSize,
		first: binary.LittleEndian.Uint64(h[44:]), seq: binary.LittleEndian.Uint64(h[44:]),
	}
}

// openJournal checks the header of an existing journal. replay finds its end.
func openJournal(fs vfs.FS, path, owner string, diskSize int64) (*journal, error) {
	f, err := fs.OpenReadWrite(path, journalCategory)
	if err != nil {
		return nil, err
	}
	h := make([]byte, journalHeaderSize)
	if _, err = f.ReadAt(h, 0); err == nil {
		err = checkJournalHeader(h, owner, diskSize)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("journal %s: %w", path, err), f.Close())
	}
	return newJournal(f, h), nil
}

// ownerSum names a disk of a session in a few bytes; never 0, which is what
// journals of older versions have there.
func ownerSum(owner string) uint32 { return max(crc32.Checksum([]byte(owner), castagnoli), 1) }

func checkJournalHeader(h []byte, owner string, diskSize int64) error {
	switch {
	case string(h[:8]) != journalMagic:
		return errors.New("not a session journal")
	case binary.LittleEndian.Uint32(h[60:]) != crc32.Checksum(h[:60], castagnoli):
		return errors.New("header checksum is wrong")
	case binary.LittleEndian.Uint16(h[8:]) != journalVersion:
		return fmt.Errorf("format %d, this server reads %d", binary.LittleEndian.Uint16(h[8:]), journalVersion)
	case binary.LittleEndian.Uint32(h[40:]) != ownerSum(owner) && binary.LittleEndian.Uint32(h[40:]) != 0:
		return fmt.Errorf("it is not that of %s", owner)
	case binary.LittleEndian.Uint64(h[16:]) != uint64(diskSize):
		return fmt.Errorf("for a disk of %d bytes, the session's has %d", binary.LittleEndian.Uint64(h[16:]), diskSize)
	}
	return nil
}

// begin starts a record of the given type; the caller appends the payload to
// j.buf and calls finish.
func (j *journal) begin(t recordType) {
	j.buf = append(j.buf[:0], make([]byte, recordHeaderSize)...)
	j.buf[4] = byte(t)
	binary.LittleEndian.PutUint64(j.buf[8:], j.seq)
}

// finish writes the record begun. It returns where its payload lies in the
// file. After an error the journal is as if the record had never been begun.
func (j *journal) finish() (int64, error) {
	binary.LittleEndian.PutUint32(j.buf, uint32(len(j.buf)-recordHeaderSize))
	j.buf = binary.LittleEndian.AppendUint32(j.buf, crc32.Update(j.seed, castagnoli, j.buf))
	if err := j.clean(); err != nil {
		return 0, err
	}
	if _, err := j.file.WriteAt(j.buf, j.end); err != nil {
		j.soil = j.end + int64(len(j.buf))
		_ = j.clean() // else before the next record
		return 0, fmt.Errorf("write session journal: %w", err)
	}
	at := j.end + recordHeaderSize
	j.end += int64(len(j.buf))
	j.seq++
	return at, nil
}

// clean overwrites what a failed write may have left with zeros: behind the
// last record there is nothing but one that a crash tore.
func (j *journal) clean() error {
	if j.soil <= j.end {
		return nil
	}
	if _, err := j.file.WriteAt(make([]byte, j.soil-j.end), j.end); err != nil {
		return fmt.Errorf("clear the end of a session journal: %w", err)
	}
	j.soil = 0
	return nil
}

// mark appends a record without payload.
func (j *journal) mark(t recordType) error {
	j.begin(t)
	_, err := j.finish()
	return err
}

// record is one journal record read back. payload is valid until the next read.
type record struct {
	typ     recordType
	payload []byte
	at      int64 // of the payload in the file
}

// next reads the record at j.end and moves past it. errTorn means that no valid
// record is there: the end, or one that never became whole.
func (j *journal) next(r io.ReaderAt) (record, error) {
	var h [recordHeaderSize]byte
	if err := readFull(r, h[:], j.end); err != nil {
		return record{}, err
	}
	n := binary.LittleEndian.Uint32(h[:])
	if n > maxRecord || binary.LittleEndian.Uint64(h[8:]) != j.seq || h[5]|h[6]|h[7] != 0 {
		return record{}, errTorn
	}
	j.buf = append(j.buf[:0], h[:]...)
	j.buf = append(j.buf, make([]byte, n+recordTrailerSize)...)
	if err := readFull(r, j.buf[recordHeaderSize:], j.end+recordHeaderSize); err != nil {
		return record{}, err
	}
	body := j.buf[:recordHeaderSize+n]
	if binary.LittleEndian.Uint32(j.buf[len(body):]) != crc32.Update(j.seed, castagnoli, body) {
		return record{}, errTorn
	}
	rec := record{typ: recordType(h[4]), payload: body[recordHeaderSize:], at: j.end + recordHeaderSize}
	j.end += int64(len(j.buf))
	j.seq++
	return rec, nil
}

// clearRest overwrites what lies behind the last valid record. A power cut may
// have spared later records than the one it tore, and they would be valid again
// behind a new record of the same length. The zeros need no sync of their own:
// one that makes new records durable comes after them.
func (j *journal) clearRest() error {
	info, err := j.file.Stat()
	if err != nil {
		return err
	}
	zeros := make([]byte, max(min(info.Size()-j.end, maxRecord), 0))
	for at := j.end; at < info.Size(); at += int64(len(zeros)) {
		if _, err := j.file.WriteAt(zeros[:min(int64(len(zeros)), info.Size()-at)], at); err != nil {
			return fmt.Errorf("clear the end of a session journal: %w", err)
		}
	}
	return nil
}

// readFull reads all of p; a file that ends before is errTorn.
func readFull(r io.ReaderAt, p []byte, at int64) error {
	n, err := r.ReadAt(p, at)
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return errTorn
	}
	return err
}

// counts is what a record adds to a disk's statistics.
type counts struct {
	written, zeroed, fresh, stored int64 // bytes
}

// mapped says that blocks from block on lie in consecutive slots from addr on,
// or are zero when addr is 0.
type mapped struct {
	block int64
	count uint32
	addr  dedup.Addr
}

const mappedSize = 20

func (j *journal) appendMap(c counts, runs []mapped) error {
	j.begin(recMap)
	for _, v := range [...]int64{c.written, c.zeroed, c.fresh, c.stored} {
		j.buf = binary.LittleEndian.AppendUint64(j.buf, uint64(v))
	}
	for _, r := range runs {
		j.buf = binary.LittleEndian.AppendUint64(j.buf, uint64(r.block))
		j.buf = binary.LittleEndian.AppendUint64(j.buf, uint64(r.addr))
		j.buf = binary.LittleEndian.AppendUint32(j.buf, r.count)
	}
	_, err := j.finish()
	return err
}

// decodeMap calls use for every run of a recMap payload.
func decodeMap(p []byte, blocks int64, use func(mapped) error) (c counts, err error) {
	if len(p) < 32 || (len(p)-32)%mappedSize != 0 {
		return c, fmt.Errorf("mapping record of %d bytes", len(p))
	}
	for i, v := range [...]*int64{&c.written, &c.zeroed, &c.fresh, &c.stored} {
		*v = int64(binary.LittleEndian.Uint64(p[i*8:]))
	}
	for p = p[32:]; len(p) > 0; p = p[mappedSize:] {
		m := mapped{
			block: int64(binary.LittleEndian.Uint64(p)),
			addr:  dedup.Addr(binary.LittleEndian.Uint64(p[8:])),
			count: binary.LittleEndian.Uint32(p[16:]),
		}
		if m.block < 0 || m.block >= blocks || int64(m.count) > blocks-m.block {
			return c, fmt.Errorf("mapping of blocks %d+%d on a disk of %d", m.block, m.count, blocks)
		}
		if m.addr != 0 && int(m.addr.Slot())+int(m.count) > 1<<16 {
			return c, fmt.Errorf("mapping of %d slots from %v", m.count, m.addr)
		}
		if err := use(m); err != nil {
			return c, err
		}
	}
	return c, nil
}

// appendRaw logs data, less than a block and within one, at byte off of the
// disk. It returns where the data lies in the file.
func (j *journal) appendRaw(off int64, data []byte) (int64, error) {
	j.begin(recRaw)
	j.buf = binary.LittleEndian.AppendUint64(j.buf, uint64(off))
	j.buf = append(j.buf, data...)
	at, err := j.finish()
	return at + 8, err
}

func decodeRaw(p []byte, size int64) (off int64, n int, err error) {
	if len(p) <= 8 {
		return 0, 0, fmt.Errorf("raw record of %d bytes", len(p))
	}
	off, n = int64(binary.LittleEndian.Uint64(p)), len(p)-8
	if off < 0 || off > size || int64(n) > size-off || off%dedup.BlockSize+int64(n) > dedup.BlockSize {
		return 0, 0, fmt.Errorf("raw extent %d+%d on a disk of %d bytes", off, n, size)
	}
	return off, n, nil
}

// appendZero logs that [off, off+n) reads as zeros. written says that the
// client sent zeros as data, which only the statistics care about.
func (j *journal) appendZero(off, n int64, written bool) error {
	j.begin(recZero)
	j.buf = binary.LittleEndian.AppendUint64(j.buf, uint64(off))
	j.buf = binary.LittleEndian.AppendUint64(j.buf, uint64(n))
	w := byte(0)
	if written {
		w = 1
	}
	j.buf = append(j.buf, w)
	_, err := j.finish()
	return err
}

func decodeZero(p []byte, size int64) (off, n int64, written bool, err error) {
	if len(p) != 17 {
		return 0, 0, false, fmt.Errorf("zero record of %d bytes", len(p))
	}
	off, n = int64(binary.LittleEndian.Uint64(p)), int64(binary.LittleEndian.Uint64(p[8:]))
	if off < 0 || off > size || n <= 0 || n > size-off || p[16] > 1 {
		return 0, 0, false, fmt.Errorf("zero extent %d+%d on a disk of %d bytes", off, n, size)
	}
	return off, n, p[16] == 1, nil
}

// seqOf is the number in a record's header.
func seqOf(h []byte) uint64 { return binary.LittleEndian.Uint64(h[8:]) }

const markPayload = 16

// appendMark logs that every record below safe is power-cut safe, its packs too.
// It is a clean mark when safe is its own number. The records below synced are
// on the disk already: with a mark behind its end that says so, a journal is
// damaged, and not just cut.
func (j *journal) appendMark(safe, synced uint64) error {
	j.begin(recMark)
	j.buf = binary.LittleEndian.AppendUint64(j.buf, safe)
	j.buf = binary.LittleEndian.AppendUint64(j.buf, synced)
	_, err := j.finish()
	return err
}

// decodeMark reads a mark that is record number own.
func decodeMark(p []byte, own uint64) (safe, synced uint64, err error) {
	if len(p) != markPayload {
		return 0, 0, fmt.Errorf("mark of %d bytes", len(p))
	}
	safe, synced = binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:])
	if safe > own || synced > own {
		return 0, 0, fmt.Errorf("record %d is a mark of %d and %d", own, safe, synced)
	}
	return safe, synced, nil
}
