package metalog

import (
	"fmt"
	"strings"
)

// settle writes the last transaction again, into a file of its own that takes
// the place of its first sequence number, and goes on there.
func (l *Log) settle(end scanEnd) error {
	from := len(l.files) - 1
	old := l.files[from]
	name := fileName(end.last.first)
	w, err := l.create(strings.TrimSuffix(name, suffix)+tmpSuffix, end.last.first)
	if err != nil {
		return err
	}
	l.w = w
	if err := l.copy(old, end.last); err != nil {
		return fmt.Errorf("write the last transaction of metadata log %s again: %w", old.path, err)
	}
	if err := w.file.Sync(); err != nil {
		return l.fail(w.path, err)
	}
	if err := l.o.FS.Rename(w.path, l.path(name)); err != nil {
		return err
	}
	if err := syncDir(l.o.FS, l.o.Dir); err != nil {
		return l.fail(l.o.Dir, err)
	}
	w.path = l.path(name)
	if old.first == end.last.first {
		l.files = l.files[:from]
	}
	l.files = append(l.files, file{path: w.path, size: w.size,
		header: header{domain: old.domain, store: old.store, first: end.last.first, salt: w.salt}})
	l.from = min(l.from, len(l.files)-1)
	return nil
}

// copy frames the records of t anew, for the salt of the file they go to.
func (l *Log) copy(old file, t span) error {
	in, err := l.o.FS.Open(old.path)
	if err != nil {
		return err
	}
	defer in.Close()
	s, err := newScanner(old.path, in, old.salt)
	if err != nil {
		return err
	}
	s.seek(t.start)
	var buf []byte
	for s.off < t.end {
		h, payload, reason, err := s.record()
		if err == nil && reason != "" {
			err = &DamageError{File: old.path, Offset: s.off, Reason: reason}
		}
		if err != nil {
			return err
		}
		buf = appendRecord(buf, &l.w.salt, h, payload)
		if len(buf) >= writeBuffer || s.off >= t.end {
			if err := l.w.write(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	return nil
}
