package metalog

import (
	"crypto/rand"
	"fmt"
	"math"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/internal/mutant"
)

// writer is the open end of a file. Bytes are written one after the other.
type writer struct {
	path  string
	first uint64
	file  vfs.File
	salt  [8]byte
	size  int64
	// at says that the file was opened again, so that its own position is
	// not at its end.
	at bool
}

func (w *writer) write(b []byte) error {
	n, err := 0, error(nil)
	if w.at {
		n, err = w.file.WriteAt(b, w.size)
	} else {
		n, err = w.file.Write(b)
	}
	w.size += int64(n)
	if err == nil && n < len(b) {
		err = fmt.Errorf("wrote %d of %d bytes", n, len(b))
	}
	return err
}

// create makes a file whose header is durable; name may differ from the name
// that first asks for while the file is not in place yet.
func (l *Log) create(name string, first uint64) (*writer, error) {
	h := header{domain: l.o.Domain, store: l.o.StoreID, first: first}
	rand.Read(h.salt[:])
	w := &writer{path: l.path(name), first: first, salt: h.salt}
	var err error
	if w.file, err = l.o.FS.Create(w.path, category); err != nil {
		return nil, fmt.Errorf("create metadata log: %w", err)
	}
	if err := w.write(h.encode()); err != nil {
		w.file.Close()
		return nil, fmt.Errorf("create metadata log %s: %w", w.path, err)
	}
	if err := w.file.Sync(); err != nil {
		w.file.Close()
		return nil, l.fail(w.path, err)
	}
	return w, nil
}

// start makes l.w the file the next transaction goes to.
func (l *Log) start() error {
	if l.w != nil && l.w.size < l.o.RotateBytes {
		return nil
	}
	l.giveUp()
	w, err := l.create(fileName(l.next), l.next)
	if err != nil {
		return err
	}
	if !mutant.On("metalog/no-directory-sync") {
		if err := syncDir(l.o.FS, l.o.Dir); err != nil {
			w.file.Close()
			return l.fail(l.o.Dir, err)
		}
	}
	l.w = w
	l.count.Add(1)
	l.bytes.Add(w.size)
	return nil
}

// giveUp leaves the open file as it is. One without a whole transaction will
// be replaced by the next file, which has its name.
func (l *Log) giveUp() {
	if l.w == nil {
		return
	}
	if l.w.first == l.next {
		l.count.Add(-1)
		l.bytes.Add(-l.w.size)
	}
	l.w.file.Close()
	l.w = nil
}

// fail ends writing for good.
func (l *Log) fail(path string, err error) error {
	l.giveUp()
	e := error(&SyncError{File: path, Err: err})
	l.failed.Store(&e)
	return e
}

// A Txn is a transaction being written. Exactly one of Commit and Abort ends it.
type Txn struct {
	l      *Log
	first  uint64
	seq    uint64
	digest digest
	buf    []byte
	wrote  bool
	err    error
}

// Begin starts a transaction; there is at most one at a time.
func (l *Log) Begin() (*Txn, error) {
	if err := l.Err(); err != nil {
		return nil, err
	}
	if err := l.start(); err != nil {
		return nil, err
	}
	return &Txn{l: l, first: l.next, seq: l.next, digest: newDigest()}, nil
}

// Add appends a record of at most MaxPayload bytes; payload is not kept.
// Type 1 is the log's own.
func (t *Txn) Add(typ uint16, payload []byte) error {
	if t.err != nil {
		return t.err
	}
	if len(payload) > MaxPayload || typ == typeCommit || t.digest.count == math.MaxUint32 {
		t.err = fmt.Errorf("metadata log: record of type %d and %d bytes cannot be written", typ, len(payload))
		return t.err
	}
	at := len(t.buf)
	t.append(typ, payload)
	t.digest.add(t.buf[at+4:at+28], payload)
	if len(t.buf) >= writeBuffer {
		t.flush()
	}
	return t.err
}

func (t *Txn) append(typ uint16, payload []byte) {
	h := recordHeader{length: uint32(len(payload)), seq: t.seq, txn: t.first, typ: typ}
	t.buf = appendRecord(t.buf, &t.l.w.salt, h, payload)
	t.seq++
}

// flush hands the buffer to the file.
func (t *Txn) flush() {
	t.wrote = true
	before := t.l.w.size
	err := t.l.w.write(t.buf)
	t.l.bytes.Add(t.l.w.size - before)
	t.buf = t.buf[:0]
	if err != nil {
		t.err = fmt.Errorf("write metadata log %s: %w", t.l.w.path, err)
	}
}

// Commit makes the transaction durable and returns the sequence number of its
// commit record. After an error the transaction is absent, now and after every
// later Open, if another transaction is committed after it; unless it is, it
// may turn up whole at the next Open.
func (t *Txn) Commit() (uint64, error) {
	if t.err == nil {
		t.append(typeCommit, t.digest.commit())
		t.flush()
	}
	if t.err != nil {
		t.Abort()
		return 0, t.err
	}
	if !mutant.On("metalog/no-sync") {
		if err := t.l.w.file.SyncData(); err != nil {
			return 0, t.l.fail(t.l.w.path, err)
		}
	}
	t.l.next = t.seq
	return t.seq - 1, nil
}

// Abort forgets the transaction. A file that took part of it is given up.
func (t *Txn) Abort() {
	if t.wrote {
		t.l.giveUp()
	}
}
