package metalog

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	suffix    = ".mlog"
	tmpSuffix = ".mlog.tmp"
	category  = vfs.DiskWriteCategory("strongroom-metadata-log")
)

// file is one file of the log with a valid header.
type file struct {
	path string
	header
	size int64
}

func fileName(first uint64) string { return fmt.Sprintf("%016x%s", first, suffix) }

// parseName returns the first sequence number a file name promises.
func parseName(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok || len(digits) != 16 {
		return 0, false
	}
	first, err := strconv.ParseUint(digits, 16, 64)
	return first, err == nil && first > 0 && fileName(first) == name
}

// list returns the files in order. torn is the first sequence number of a last
// file whose header never became whole, 0 if there is none.
func (l *Log) list() (files []file, torn uint64, err error) {
	names, err := l.o.FS.List(l.o.Dir)
	if err != nil {
		return nil, 0, err
	}
	slices.Sort(names)
	for _, name := range names {
		first, ok := parseName(name)
		if !ok {
			continue
		}
		if torn != 0 {
			return nil, 0, &DamageError{File: l.path(fileName(torn)), Reason: errHeader.Error()}
		}
		f, err := l.readHeader(name, first)
		if err == errHeader {
			torn = first
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		files = append(files, f)
	}
	return files, torn, nil
}

// readHeader returns errHeader if the header is not whole and nothing follows
// it: a crash while the file was being made.
func (l *Log) readHeader(name string, first uint64) (file, error) {
	f := file{path: l.path(name)}
	b, size, err := readStart(l.o.FS, f.path)
	if err != nil {
		return f, fmt.Errorf("read metadata log %s: %w", f.path, err)
	}
	f.size = size
	switch f.header, err = decodeHeader(b); {
	case err == errHeader && size <= headerSize:
		return f, errHeader
	case err == errHeader:
		return f, &DamageError{File: f.path, Reason: err.Error()}
	case err != nil:
		return f, fmt.Errorf("metadata log %s: %w", f.path, err)
	case f.first != first:
		return f, &DamageError{File: f.path, Offset: 32, Reason: fmt.Sprintf("the header belongs to %s", fileName(f.first))}
	case f.store != l.o.StoreID || f.domain != l.o.Domain:
		return f, fmt.Errorf("metadata log %s belongs to store %x, domain %d; this is store %x, domain %d: the directories of two stores are mixed up",
			f.path, f.store, f.domain, l.o.StoreID, l.o.Domain)
	}
	return f, nil
}

func readStart(fs vfs.FS, path string) (b []byte, size int64, err error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	b = make([]byte, min(headerSize, info.Size()))
	if _, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		return nil, 0, err
	}
	return b, info.Size(), nil
}

// removeLeftovers deletes files that were never renamed into place.
func (l *Log) removeLeftovers() error {
	names, err := l.o.FS.List(l.o.Dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, tmpSuffix) {
			if err := l.o.FS.Remove(l.path(name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *Log) path(name string) string { return l.o.FS.PathJoin(l.o.Dir, name) }
