package volume

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/mutant"
)

// fileEnd is what a file is beside its blocks, guarded by disk.mu. As a disk a
// file has maxFileSize bytes; what lies behind its length is always zero, so
// that it can grow by saying so, and old bytes never come back.
type fileEnd struct {
	length   int64
	modified time.Time
	mode     uint32
	state    FileState
	cut      string // why it is older than what was acknowledged, which session.json keeps
	unlogged bool   // a write has changed modified, which the journal does not say yet
	copied   int    // added disks that have taken blocks of the file: nobody may change it
}

// FileState says whether a file is all that was to be written.
type FileState uint8

const (
	// Whole is a file that nobody has begun to write, or that he has closed.
	Whole FileState = iota
	// Writing is one that somebody writes. If the server dies meanwhile, what it
	// had taken and not passed on is missing.
	Writing
	// Left is one whose writer went before he closed it. All he wrote is there.
	Left
)

// recFile: u64 length, i64 modified in Unix nanoseconds, u32 mode, the state in
// its two highest bits.
const (
	fileRecordSize = 20
	stateShift     = 30
)

func (j *journal) appendFile(e *fileEnd) error {
	j.begin(recFile)
	j.buf = binary.LittleEndian.AppendUint64(j.buf, uint64(e.length))
	j.buf = binary.LittleEndian.AppendUint64(j.buf, uint64(e.modified.UnixNano()))
	j.buf = binary.LittleEndian.AppendUint32(j.buf, e.mode|uint32(e.state)<<stateShift)
	_, err := j.finish()
	return err
}

func decodeFile(p []byte) (e fileEnd, err error) {
	if len(p) != fileRecordSize {
		return e, fmt.Errorf("file record of %d bytes", len(p))
	}
	e.length = int64(binary.LittleEndian.Uint64(p))
	e.modified = time.Unix(0, int64(binary.LittleEndian.Uint64(p[8:]))).UTC()
	mode := binary.LittleEndian.Uint32(p[16:])
	e.mode, e.state = mode&(1<<stateShift-1), FileState(mode>>stateShift)
	if e.length < 0 || e.length > maxFileSize || e.mode > maxFileMode || e.state > Left {
		return e, fmt.Errorf("file record: %d bytes, mode %o", e.length, e.mode)
	}
	return e, nil
}

func (d *disk) redoFile(payload []byte) error {
	if d.file == nil {
		return fmt.Errorf("file record on a disk")
	}
	e, err := decodeFile(payload)
	if err != nil {
		return err
	}
	return d.become(e)
}

// unfinished says why what was written may not be all there.
func (e *fileEnd) unfinished() string {
	switch {
	case e.cut != "":
		return e.cut
	case e.state == Writing:
		return "the server ended, or somebody writes it"
	case e.state == Left:
		return "whoever wrote it went before he closed it"
	}
	return ""
}

// logFile logs and applies length, time and mode, as one.
func (d *disk) logFile(e fileEnd) error {
	if err := d.journal.appendFile(&e); err != nil {
		return err
	}
	return d.become(e)
}

// become applies a file record. A file that gets shorter loses what it had
// behind its new end in the same step.
func (d *disk) become(e fileEnd) error {
	old := d.file.length
	d.file.length, d.file.modified, d.file.mode, d.file.state, d.file.unlogged = e.length, e.modified, e.mode, e.state, false
	d.s.space.Add(e.length - old)
	if e.length >= old || mutant.On("volume/cut-keeps-tail") {
		return nil
	}
	return d.cut(e.length, old)
}

// cut forgets everything from byte off on, in a file that had size bytes.
func (d *disk) cut(off, size int64) error {
	first := (off + dedup.ChunkSize - 1) / dedup.ChunkSize // chunk that goes whole
	end := min(first*dedup.ChunkSize, blocksOf(size)*dedup.BlockSize)
	if off < end && d.chunks[uint32(off/dedup.ChunkSize)] != nil {
		if err := d.applyZero(off, end-off); err != nil {
			return err
		}
	}
	for index := range d.chunks {
		if int64(index) >= first {
			d.zeroChunk(index)
		}
	}
	return nil
}

// mayChange refuses to change a file whose blocks were copied.
func (d *disk) mayChange() error {
	if d.file.copied > 0 && !mutant.On("volume/copied-file-changes") {
		return fmt.Errorf("%w: a disk is made of %s; commit the backup, or drop that disk", ErrInUse, d.what())
	}
	return nil
}

// reach prepares a write that ends at byte end. The length is logged before the
// data: whatever a crash leaves, nothing is behind the length.
func (d *disk) reach(end int64) error {
	if d.file == nil {
		return nil
	}
	if err := d.mayChange(); err != nil {
		return err
	}
	e := *d.file
	e.modified = d.s.m.now().UTC()
	if end <= e.length {
		d.file.modified, d.file.unlogged = e.modified, true
		return nil
	}
	if err := d.room(end - e.length); err != nil {
		return err
	}
	e.length = end
	return d.logFile(e)
}

// room refuses to let the files of a session become too large together.
func (d *disk) room(more int64) error {
	if d.s.space.Load()+more > maxFileSize {
		return fmt.Errorf("%w: the files of backup %s may have %d bytes together, holes included", ErrLimit, d.s.file.ID, int64(maxFileSize))
	}
	return nil
}

// logModified logs the time of the last write, if the journal does not say it.
func (d *disk) logModified() error {
	if d.file == nil {
		return nil
	}
	d.mu.Lock()
	skip := !d.file.unlogged || d.journal == nil
	d.mu.Unlock()
	if skip {
		return nil
	}
	return d.log(func() error { return d.logFile(*d.file) })
}

// look is what the file is now.
func (d *disk) look() (fileEnd, counts) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return *d.file, d.total
}
