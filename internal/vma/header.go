package vma

import "time"

// Header says what an archive holds.
type Header struct {
	UUID    [16]byte // of the archive; all zeros: NewWriter makes one
	Created time.Time
	Configs []Config
	Devices []Device
}

// Config is a named file, such as qemu-server.conf.
type Config struct {
	Name string
	Data []byte
}

// Device is a disk. ID is 1…254, Size in bytes.
type Device struct {
	ID   uint8
	Name string
	Size int64
}
