package imports

import (
	"bytes"
	"fmt"

	"github.com/strongroom-backup/strongroom/internal/vma"
)

// Format is what a source is.
type Format string

// The formats.
const (
	VMA   Format = "vma"
	QCOW2 Format = "qcow2"
	Raw   Format = "raw"
)

// ParseFormat reads a format's name; an empty one means: look.
func ParseFormat(s string) (Format, error) {
	switch f := Format(s); f {
	case "", VMA, QCOW2, Raw:
		return f, nil
	}
	return "", fmt.Errorf("format %q: want vma, qcow2 or raw", s)
}

// UsageError is something the user must ask for otherwise.
type UsageError struct{ Message, Hint string }

func (e *UsageError) Error() string { return e.Message }

const qcow2Magic = "QFI\xfb"

// foreign are files that begin so and are no raw disks.
var foreign = []struct {
	at         int
	magic      string
	what, tool string // tool: what unpacks it; none: qemu-img converts it
}{
	{0, "\x28\xb5\x2f\xfd", "compressed with zstd", "zstd -dc"},
	{0, "\x1f\x8b", "compressed with gzip", "gzip -dc"},
	{0, "\x89LZO\x00\r\n\x1a\n", "compressed with lzop", "lzop -dc"},
	{0, "\xfd7zXZ\x00", "compressed with xz", "xz -dc"},
	{0, "KDMV", "a VMDK image", ""},
	{0, "# Disk DescriptorFile", "the description of a VMDK image", ""},
	{0, "vhdxfile", "a VHDX image", ""},
	{0, "conectix", "a VHD image", ""},
	{64, "\x7f\x10\xda\xbe", "a VDI image", ""},
}

// Detect finds the format from a file's first bytes. What is not known by them is
// a raw disk; what is known to be something else is a *UsageError that says what
// to do with the file of this name, or with standard input.
func Detect(head []byte, name string) (Format, error) {
	switch {
	case bytes.HasPrefix(head, []byte(vma.Magic)):
		return VMA, nil
	case bytes.HasPrefix(head, []byte(qcow2Magic)):
		return QCOW2, nil
	}
	for _, f := range foreign {
		if len(head) < f.at || !bytes.HasPrefix(head[f.at:], []byte(f.magic)) {
			continue
		}
		what := name
		if name == "-" {
			what, name = "standard input", "FILE"
		}
		hint := "convert it with: qemu-img convert -O qcow2 " + name + " FILE.qcow2"
		if f.tool != "" {
			hint = "unpack it on the way: " + f.tool + " " + name + " | strongroom import - VM"
		}
		return "", &UsageError{what + " is " + f.what, hint + "; or take it as a raw disk with --format raw"}
	}
	return Raw, nil
}
