package vma

import "io"

// Writer writes an archive.
type Writer struct{}

// NewWriter writes the header.
func NewWriter(w io.Writer, h Header) (*Writer, error) { return nil, errUnfinished }

// Cluster adds a cluster.
func (w *Writer) Cluster(dev uint8, cluster uint32, data []byte) error { return errUnfinished }

// Close writes what is pending.
func (w *Writer) Close() error { return errUnfinished }
