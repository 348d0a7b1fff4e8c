package vma

import (
	"crypto/md5"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// readHeader reads and checks the whole header. Config.Data are parts of one
// buffer.
func readHeader(r io.Reader) (h Header, size int64, err error) {
	b := make([]byte, blobsAt)
	if err := readFull(r, b[:len(headerMagic)], 0, "header"); err != nil {
		return h, 0, err
	}
	if string(b[:4]) != headerMagic {
		return h, 0, malformed(0, "it does not begin with the header of a VMA archive")
	}
	if err := readFull(r, b[4:], 4, "header"); err != nil {
		return h, 0, err
	}
	be := binary.BigEndian
	if v := be.Uint32(b[4:]); v != 1 {
		return h, 0, malformed(4, "version %d of the format; only 1 is known", v)
	}
	n := be.Uint32(b[56:])
	if n <= blobsAt || n > headerMax || n%512 != 0 {
		return h, 0, malformed(56, "a header of %d bytes; it has more than %d, at most %d, and a multiple of 512", n, blobsAt, headerMax)
	}
	b = append(b, make([]byte, n-blobsAt)...)
	if err := readFull(r, b[blobsAt:], blobsAt, "header"); err != nil {
		return h, 0, err
	}
	if !sumRight(b, 32) {
		return h, 0, malformed(32, "the header's checksum is wrong: it is damaged")
	}
	return decodeHeader(b)
}

func decodeHeader(b []byte) (h Header, size int64, err error) {
	be := binary.BigEndian
	copy(h.UUID[:], b[8:])
	h.Created = time.Unix(int64(be.Uint64(b[24:])&(1<<40-1)), 0)
	at, n := be.Uint32(b[48:]), be.Uint32(b[52:])
	if at < blobsAt || uint64(at)+uint64(n) > uint64(len(b)) {
		return h, 0, malformed(48, "%d bytes of names and files at %d; they lie between %d and the header's end at %d", n, at, blobsAt, len(b))
	}
	d := decoder{header: b, blobs: b[at : at+n]}
	if h.Configs, err = d.configs(); err != nil {
		return h, 0, err
	}
	h.Devices, err = d.devices()
	return h, int64(len(b)), err
}

// decoder reads what the header's tables name.
type decoder struct {
	header, blobs []byte
}

func (d decoder) configs() (list []Config, err error) {
	be := binary.BigEndian
	seen := map[string]bool{}
	for i := range configsMax {
		names, data := configNames+4*i, configData+4*i
		if be.Uint32(d.header[names:]) == 0 && be.Uint32(d.header[data:]) == 0 {
			continue
		}
		c := Config{}
		if c.Name, err = d.name(names, seen); err != nil {
			return nil, fmt.Errorf("name of configuration file %d: %w", i, err)
		}
		if c.Data, err = d.blob(data); err != nil {
			return nil, fmt.Errorf("configuration file %q: %w", c.Name, err)
		}
		list = append(list, c)
	}
	return list, nil
}

func (d decoder) devices() (list []Device, err error) {
	be := binary.BigEndian
	seen, total := map[string]bool{}, int64(0)
	for i := range 256 {
		at := devicesAt + deviceLength*i
		size := be.Uint64(d.header[at+8:])
		if be.Uint32(d.header[at:]) == 0 && size == 0 {
			continue
		}
		if i == 0 || i > deviceMax {
			return nil, malformed(int64(at), "a device %d; there are 1 to %d", i, deviceMax)
		}
		dev := Device{ID: uint8(i)}
		if dev.Name, err = d.name(at, seen); err != nil {
			return nil, fmt.Errorf("name of device %d: %w", i, err)
		}
		if size == 0 || size > clustersMax*ClusterSize {
			return nil, malformed(int64(at)+8, "device %q has %d bytes; it has at least one, and at most 256 TiB", dev.Name, size)
		}
		dev.Size = int64(size)
		if total += dev.clusters(); total > clustersMax {
			return nil, malformed(int64(at)+8, "with %q the devices have more than 256 TiB together", dev.Name)
		}
		list = append(list, dev)
	}
	return list, nil
}

// name is the name that the field at names.
func (d decoder) name(at int, seen map[string]bool) (string, error) {
	b, err := d.blob(at)
	if err != nil {
		return "", err
	}
	if len(b) == 0 || b[len(b)-1] != 0 {
		return "", malformed(int64(at), "a name that does not end with a zero byte")
	}
	if len(b) > nameMax+1 { // which the messages below are not made for
		return "", malformed(int64(at), "a name of %d bytes; it has %d at most", len(b), nameMax)
	}
	name := string(b[:len(b)-1])
	if err := checkName("name", name, seen); err != nil {
		return "", malformed(int64(at), "%v", err)
	}
	return name, nil
}

// blob is the blob whose place is in the field at.
func (d decoder) blob(at int) ([]byte, error) {
	pos := int64(binary.BigEndian.Uint32(d.header[at:]))
	if end := int64(len(d.blobs)); pos > 0 && pos <= end-2 {
		n := int64(binary.LittleEndian.Uint16(d.blobs[pos:]))
		if pos += 2; n <= end-pos {
			return d.blobs[pos : pos+n : pos+n], nil
		}
	}
	return nil, malformed(int64(at), "it is said to be at %d, which is outside the %d bytes of names and files", pos, len(d.blobs))
}

// sumRight compares the MD5 at b[at:] with that of b, and leaves zeros there.
func sumRight(b []byte, at int) bool {
	var want [16]byte
	copy(want[:], b[at:])
	clear(b[at : at+16])
	return md5.Sum(b) == want
}

// readFull fills p, which is at off of the stream and a part of what.
func readFull(r io.Reader, p []byte, off int64, what string) error {
	n, err := io.ReadFull(r, p)
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return malformed(off+int64(n), "the archive ends within its %s: it is not complete", what)
	}
	if err != nil {
		return fmt.Errorf("read the VMA archive at byte %d: %w", off+int64(n), err)
	}
	return nil
}
