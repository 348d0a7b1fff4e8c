package metalog

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/internal/mutant"
)

// Options say where a log is and to whom it belongs.
type Options struct {
	FS      vfs.FS
	Dir     string // made if it does not exist
	StoreID [16]byte
	Domain  uint32
	// RotateBytes is the size from which on a file takes no further
	// transaction; 0 means DefaultRotateBytes.
	RotateBytes int64
}

// A Log is an open metadata log.
type Log struct {
	o       Options
	files   []file // as found by Open
	from    int    // files[from] is the first one with records not applied
	applied uint64 // Open's argument
	next    uint64 // sequence number of the next record
	w       *writer
	failed  atomic.Pointer[error]
	count   atomic.Int64
	bytes   atomic.Int64
}

// Open checks the log from the record after applied on, which is the last one
// its owner has applied, and makes it ready for Replay and Begin. Nothing is
// changed when it fails, but for the directory being made.
func Open(o Options, applied uint64) (*Log, error) {
	if o.RotateBytes == 0 {
		o.RotateBytes = DefaultRotateBytes
	}
	l := &Log{o: o, applied: applied, next: 1}
	if err := mkdirSynced(o.FS, o.Dir); err != nil {
		return nil, fmt.Errorf("make metadata log directory: %w", err)
	}
	files, torn, err := l.list()
	if err != nil {
		return nil, err
	}
	l.files = files
	end, err := l.check(torn)
	if err != nil {
		return nil, err
	}
	if err := l.removeLeftovers(); err != nil {
		return nil, err
	}
	if err := l.resume(end); err != nil {
		l.giveUp()
		return nil, err
	}
	if torn == l.next {
		l.giveUp() // the next file takes the place of that one
	}
	for _, f := range l.files {
		if f.first < l.next {
			l.count.Add(1)
			l.bytes.Add(f.size)
		}
	}
	return l, nil
}

// check scans the files not wholly applied and returns the end of the last.
func (l *Log) check(torn uint64) (end scanEnd, err error) {
	if len(l.files) > 0 && l.files[0].first != 1 {
		return end, l.missing(1, l.files[0].first)
	}
	for l.from+1 < len(l.files) && l.files[l.from+1].first <= l.applied+1 {
		l.from++
	}
	for i := l.from; i < len(l.files); i++ {
		if end, err = l.scan(i, l.stop(i), discard, func(span) error { return nil }); err != nil {
			return end, err
		}
		if err := l.checkEnd(i, end); err != nil {
			return end, err
		}
		l.next = end.next
	}
	// A file without a header was to take the next transaction, or to void
	// the last one, whose write had failed.
	if torn != 0 && torn != l.next && (torn != end.last.first || torn <= l.applied) {
		return end, l.missing(l.next, torn)
	}
	if l.next <= l.applied {
		return end, l.missing(l.next, l.applied+1)
	}
	return end, nil
}

// checkEnd tells a torn tail from damage.
func (l *Log) checkEnd(i int, end scanEnd) error {
	last := i == len(l.files)-1
	switch {
	case !last && end.next == l.files[i+1].first:
		return nil
	case end.damage != nil && (!last || end.later || end.next <= l.applied):
		return end.damage
	case !last:
		return l.missing(end.next, l.files[i+1].first)
	}
	return nil
}

func (l *Log) missing(from, to uint64) error {
	if to <= from {
		return &DamageError{File: l.path(fileName(to)), Reason: fmt.Sprintf("it begins with record %d, but the files before it hold no more than %d", to, from-1)}
	}
	return fmt.Errorf("metadata log %s: records %d to %d are %w: the file that held them is missing or cut short; "+
		"put an intact copy in its place (every tier holds one) and start again", l.o.Dir, from, to-1, ErrCorrupt)
}

// stop is the sequence number at which file i ends for a reader.
func (l *Log) stop(i int) uint64 {
	if i+1 < len(l.files) {
		return l.files[i+1].first
	}
	return math.MaxUint64
}

func discard(recordHeader, []byte) error { return nil }

// scan reads file i from its beginning.
func (l *Log) scan(i int, stop uint64, visit func(recordHeader, []byte) error, whole func(span) error) (scanEnd, error) {
	f := l.files[i]
	in, err := l.o.FS.Open(f.path)
	if err != nil {
		return scanEnd{}, fmt.Errorf("open metadata log: %w", err)
	}
	defer in.Close()
	s, err := newScanner(f.path, in, f.salt)
	if err != nil {
		return scanEnd{}, err
	}
	return s.run(f.first, stop, visit, whole)
}

// resume chooses where the next transaction goes: on in the last file if it
// ends clean, else into a new one, and writes a last transaction again that
// may not be durable. A last file without a transaction is replaced: nothing
// proves that its header and its name are durable.
func (l *Log) resume(end scanEnd) error {
	switch {
	case end.last.next == 0:
		return nil
	case end.last.next-1 > l.applied && !mutant.On("metalog/no-settle"):
		return l.settle(end)
	case end.damage != nil || end.offset != end.size:
		return nil
	}
	f := l.files[len(l.files)-1]
	open, err := l.o.FS.OpenReadWrite(f.path, category)
	if err != nil {
		return fmt.Errorf("open metadata log: %w", err)
	}
	l.w = &writer{path: f.path, first: f.first, file: open, salt: f.salt, size: end.size, at: true}
	return nil
}

// Replay gives the caller every record after the applied ones: visit per
// record, in order, payloads valid during the call; then whole, with the
// sequence number of the commit record, once the transaction is complete.
// Records of a transaction come before it is known that it can be read to its
// end: visit must only gather what whole then applies.
func (l *Log) Replay(visit func(typ uint16, payload []byte) error, whole func(seq uint64) error) error {
	for i := l.from; i < len(l.files); i++ {
		end, err := l.scan(i, min(l.stop(i), l.next), func(h recordHeader, payload []byte) error {
			if h.seq <= l.applied {
				return nil
			}
			return visit(h.typ, payload)
		}, func(t span) error {
			if t.next-1 <= l.applied {
				return nil
			}
			return whole(t.next - 1)
		})
		if err != nil {
			return err
		}
		if end.next < min(l.stop(i), l.next) {
			return errors.Join(fmt.Errorf("metadata log %s changed while it was read", l.files[i].path), damage(end))
		}
	}
	return nil
}

func damage(end scanEnd) error {
	if end.damage == nil {
		return nil
	}
	return end.damage
}

// Size is the number of files and bytes of the log.
func (l *Log) Size() (files, bytes int64) { return l.count.Load(), l.bytes.Load() }

// Err is why the log takes no more transactions, nil while it does.
func (l *Log) Err() error {
	if e := l.failed.Load(); e != nil {
		return *e
	}
	return nil
}

// Close gives the open file back. Nothing is synced: what Commit returned
// without an error is durable.
func (l *Log) Close() error {
	if l.w == nil {
		return nil
	}
	err := l.w.file.Close()
	l.w = nil
	return err
}
