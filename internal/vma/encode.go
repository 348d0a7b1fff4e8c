package vma

import (
	"crypto/md5"
	"encoding/binary"
	"fmt"
	"strings"
)

// encode checks the header and makes its bytes.
func (h *Header) encode() ([]byte, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	b := make([]byte, blobsAt+1, headerMax)
	copy(b, headerMagic)
	be := binary.BigEndian
	be.PutUint32(b[4:], 1)
	copy(b[8:], h.UUID[:])
	be.PutUint64(b[24:], uint64(max(h.Created.Unix(), 0)))
	be.PutUint32(b[48:], blobsAt)
	var err error
	for i, c := range h.Configs {
		if b, err = appendBlob(b, configNames+4*i, "the name of", c.Name, []byte(c.Name+"\x00")); err != nil {
			return nil, err
		}
		if b, err = appendBlob(b, configData+4*i, "the configuration file", c.Name, c.Data); err != nil {
			return nil, err
		}
	}
	for _, d := range h.Devices {
		at := devicesAt + deviceLength*int(d.ID)
		if b, err = appendBlob(b, at, "the name of", d.Name, []byte(d.Name+"\x00")); err != nil {
			return nil, err
		}
		be.PutUint64(b[at+8:], uint64(d.Size))
	}
	be.PutUint32(b[52:], uint32(len(b)-blobsAt))
	b = append(b, make([]byte, -len(b)&511)...)
	be.PutUint32(b[56:], uint32(len(b)))
	sum := md5.Sum(b)
	copy(b[32:], sum[:])
	return b, nil
}

// appendBlob adds a blob and puts its place into the field at b[field:].
func appendBlob(b []byte, field int, what, name string, data []byte) ([]byte, error) {
	if len(data) > blobMax {
		return nil, fmt.Errorf("%s %s has %d bytes; a VMA archive takes %d of one file", what, name, len(data), blobMax)
	}
	if len(b)+2+len(data) > headerMax {
		return nil, fmt.Errorf("%s %s does not fit: all names and configuration files of a VMA archive have %d KiB together",
			what, name, (headerMax-blobsAt)>>10)
	}
	binary.BigEndian.PutUint32(b[field:], uint32(len(b)-blobsAt))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(data)))
	return append(b, data...), nil
}

// check refuses what an archive cannot hold.
func (h *Header) check() error {
	if len(h.Configs) > configsMax {
		return fmt.Errorf("%d configuration files; a VMA archive takes %d", len(h.Configs), configsMax)
	}
	names := map[string]bool{}
	for _, c := range h.Configs {
		if err := checkName("configuration file", c.Name, names); err != nil {
			return err
		}
	}
	names, total := map[string]bool{}, int64(0)
	var used [256]bool
	for _, d := range h.Devices {
		if err := checkName("disk", d.Name, names); err != nil {
			return err
		}
		switch {
		case d.Memory():
			return fmt.Errorf("a disk named %s: in a VMA archive that is the memory of a VM, which is restored otherwise", d.Name)
		case d.ID == 0 || d.ID > deviceMax || used[d.ID]:
			return fmt.Errorf("disk %s as device %d: a VMA archive has devices 1 to %d, each once", d.Name, d.ID, deviceMax)
		case d.Size <= 0 || d.Size > clustersMax*ClusterSize || total+d.clusters() > clustersMax:
			return fmt.Errorf("disk %s has %d bytes: the disks of a VMA archive have at least one, and 256 TiB together", d.Name, d.Size)
		}
		used[d.ID] = true
		total += d.clusters()
	}
	return nil
}

func checkName(what, name string, seen map[string]bool) error {
	switch {
	case name == "" || len(name) > nameMax || strings.IndexByte(name, 0) >= 0:
		return fmt.Errorf("a %s named %.40q: names in a VMA archive have 1 to %d bytes, none of them zero", what, name, nameMax)
	case seen[name]:
		return fmt.Errorf("two %ss named %s cannot be in one VMA archive", what, name)
	}
	seen[name] = true
	return nil
}
