package vma

import "io"

// Reader reads an archive.
type Reader struct{}

// NewReader reads the header.
func NewReader(r io.Reader) (*Reader, error) { return nil, errUnfinished }

// Header is what the archive says it holds.
func (r *Reader) Header() Header { return Header{} }

// Next returns the next cluster.
func (r *Reader) Next() (dev uint8, off int64, data []byte, zero bool, err error) {
	return 0, 0, nil, false, errUnfinished
}
