package vma

import (
	"bytes"
	"crypto/md5"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// Writer writes an archive. After an error it is of no more use, and what was
// written is no archive.
type Writer struct {
	w       io.Writer
	uuid    [16]byte
	devices [256]*written
	extent  []byte // the one being filled, its header in front
	used    int    // slots of it
	err     error
}

// written is a device and what has come of it.
type written struct {
	Device
	seen seen
}

// NewWriter checks the header and writes it. A zero UUID is replaced by a random
// one, a zero Created by the time it is. An error that says a file or disk cannot
// be in an archive comes before anything is written.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	if h.UUID == [16]byte{} {
		rand.Read(h.UUID[:])
		h.UUID[6], h.UUID[8] = h.UUID[6]&0x0f|0x40, h.UUID[8]&0x3f|0x80 // version 4
	}
	if h.Created.IsZero() {
		h.Created = time.Now()
	}
	b, err := h.encode()
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(b); err != nil {
		return nil, fmt.Errorf("write the VMA archive: %w", err)
	}
	a := &Writer{w: w, uuid: h.UUID, extent: make([]byte, extentHeader, extentMax)}
	for _, d := range h.Devices {
		a.devices[d.ID] = &written{Device: d}
	}
	return a, nil
}

// Cluster adds a cluster of a device: all of its 64 KiB, or what there is of a
// device's last; nil stands for zeros. Clusters come in any order, each once.
// data is not kept. Blocks of zeros are found and left out.
func (w *Writer) Cluster(dev uint8, cluster uint32, data []byte) error {
	if w.err == nil {
		w.err = w.add(dev, cluster, data)
	}
	return w.err
}

func (w *Writer) add(dev uint8, cluster uint32, data []byte) error {
	d := w.devices[dev]
	if d == nil {
		return fmt.Errorf("device %d is not in the VMA archive's header", dev)
	}
	if int64(cluster) >= d.clusters() {
		return fmt.Errorf("cluster %d of disk %s, which ends at %d bytes", cluster, d.Name, d.Size)
	}
	if n := min(ClusterSize, d.Size-int64(cluster)*ClusterSize); data != nil && int64(len(data)) != n {
		return fmt.Errorf("cluster %d of disk %s has %d bytes, not %d", cluster, d.Name, n, len(data))
	}
	if !d.seen.add(cluster) {
		return fmt.Errorf("cluster %d of disk %s comes twice", cluster, d.Name)
	}
	mask := w.append(data)
	binary.BigEndian.PutUint64(w.extent[40+8*w.used:], uint64(mask)<<48|uint64(dev)<<32|uint64(cluster))
	if w.used++; w.used == slots {
		return w.flush()
	}
	return nil
}

var zeros [BlockSize]byte

// append adds the blocks that are not zero to the extent.
func (w *Writer) append(data []byte) (mask uint16) {
	for bit := uint16(1); len(data) > 0; bit <<= 1 {
		block := data[:min(BlockSize, len(data))]
		data = data[len(block):]
		if bytes.Equal(block, zeros[:len(block)]) {
			continue
		}
		mask |= bit
		w.extent = append(w.extent, block...)
		w.extent = append(w.extent, zeros[len(block):]...)
	}
	return mask
}

// flush writes the extent and begins the next.
func (w *Writer) flush() error {
	b := w.extent
	copy(b, extentMagic)
	binary.BigEndian.PutUint16(b[6:], uint16((len(b)-extentHeader)/BlockSize))
	copy(b[8:], w.uuid[:])
	sum := md5.Sum(b[:extentHeader])
	copy(b[24:], sum[:])
	if _, err := w.w.Write(b); err != nil {
		return fmt.Errorf("write the VMA archive: %w", err)
	}
	w.extent, w.used = b[:extentHeader], 0
	clear(w.extent)
	return nil
}

// Close writes what is pending, and fails when a cluster has not come. It does
// not close or sync what is below.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	w.err = fmt.Errorf("the VMA archive is closed")
	for _, d := range w.devices {
		if d != nil && d.seen.count < d.clusters() {
			return fmt.Errorf("cluster %d of disk %s is missing from the VMA archive", d.seen.missing(), d.Name)
		}
	}
	if w.used == 0 {
		return nil
	}
	return w.flush()
}
