package vma

import (
	"fmt"
	"time"
)

// Header says what an archive holds.
type Header struct {
	UUID    [16]byte // of the archive; all zeros: NewWriter makes one
	Created time.Time
	Configs []Config
	Devices []Device // in the order of their IDs when they were read
}

// Config is a configuration file, such as qemu-server.conf.
type Config struct {
	Name string
	Data []byte
}

// Device is a disk. Its ID is 1…254, its size in bytes.
type Device struct {
	ID   uint8
	Name string // such as drive-scsi0
	Size int64
}

// Memory reports whether the device is no disk but the memory of a running VM.
func (d Device) Memory() bool { return d.Name == memoryName }

// clusters is how many there are.
func (d Device) clusters() int64 { return (d.Size + ClusterSize - 1) / ClusterSize }

// Sizes of the format, in bytes.
const (
	ClusterSize = 64 << 10
	BlockSize   = 4 << 10
)

const (
	headerMagic = "VMA\x00"
	extentMagic = "VMAE"
	memoryName  = "vmstate"

	blobsAt      = 12288
	configNames  = 2044
	configData   = 3068
	devicesAt    = 4096
	deviceLength = 32

	slots        = 59
	extentHeader = 512
	extentMax    = extentHeader + slots*ClusterSize
)

// Magic is what an archive begins with.
const Magic = headerMagic

// FormatError says where and why an archive is not one, or damaged.
type FormatError struct {
	Offset int64 // in the stream
	Reason string
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("VMA archive: at byte %d: %s", e.Offset, e.Reason)
}

func malformed(at int64, format string, args ...any) error {
	return &FormatError{at, fmt.Sprintf(format, args...)}
}
