package qcow2

import (
	"io"
	"sync"
)

// pages is a cache of pieces of a file, for its tables. It is safe for
// concurrent use; a page read twice at once is only wasted work.
type pages struct {
	file     io.ReaderAt
	fileSize int64
	pageSize int64

	mu   sync.Mutex
	page map[int64][]byte // by number; never changed
	used []int64          // numbers, in the order they came
}

func newPages(file io.ReaderAt, fileSize, pageSize int64) *pages {
	return &pages{file: file, fileSize: fileSize, pageSize: pageSize, page: map[int64][]byte{}}
}

// from returns the file's bytes from off to the end of off's page, or of the
// file; at least one. They must not be changed.
func (c *pages) from(off int64) ([]byte, error) {
	n, in := off/c.pageSize, off%c.pageSize
	c.mu.Lock()
	p, ok := c.page[n]
	c.mu.Unlock()
	if ok {
		return p[in:], nil
	}
	p = make([]byte, min(c.pageSize, c.fileSize-n*c.pageSize))
	if err := readFull(c.file, p, n*c.pageSize); err != nil {
		return nil, err
	}
	c.keep(n, p)
	return p[in:], nil
}

func (c *pages) keep(n int64, p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.page[n]; ok {
		return
	}
	if int64(len(c.used)+1)*c.pageSize > pagesBytes {
		delete(c.page, c.used[0])
		c.used = append(c.used[:0], c.used[1:]...)
	}
	c.page[n] = p
	c.used = append(c.used, n)
}
