package qcow2

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"strings"
)

const (
	magic          = 0x514649fb // QFI\xfb
	headerLength2  = 72
	headerLength3  = 104
	extensionEnd   = 0
	extensionName  = 0xe2792aca // format of the backing file
	formatQCOW2    = "qcow2"
	compressionAt  = 104
	compressedZlib = "zlib"
	compressedZstd = "zstd"
)

// Bits of the incompatible features.
const (
	featureDirty = 1 << iota
	featureCorrupt
	featureDataFile
	featureCompression
	featureExtendedL2
	featuresKnown = 1<<iota - 1
)

// Info tells what the header says.
type Info struct {
	Version       int
	ClusterSize   int64
	Compression   string // of compressed clusters, if there are any: "zlib" or "zstd"
	RefcountBits  int
	ExtendedL2    bool // clusters are divided into 32 subclusters
	LazyRefcounts bool
	Dirty         bool // not closed properly: its refcounts may be wrong, its data is not
	Snapshots     int  // internal ones
	BackingName   string
	BackingFormat string // "" when the file does not tell
}

// header is the parsed header: its values are within their limits, and the
// tables it names lie in the file.
type header struct {
	Info
	size           int64
	l1, l1Entries  int64
	refcountTable  int64
	refcountLength int64 // bytes
}

// readHeader reads the header, its extensions and the backing file's name, all
// of which are in the first cluster.
func readHeader(r io.ReaderAt, fileSize int64) (*header, error) {
	raw := make([]byte, min(fileSize, headerLength3+8))
	if err := readFull(r, raw, 0); err != nil {
		return nil, err
	}
	if len(raw) < headerLength2 || binary.BigEndian.Uint32(raw) != magic {
		return nil, malformed(0, "it does not begin with the header of a qcow2 image")
	}
	h := &header{}
	length, features, err := h.parseVersion(raw)
	if err != nil {
		return nil, err
	}
	if err := h.parseFeatures(raw, length, features); err != nil {
		return nil, err
	}
	if err := h.parseTables(raw, fileSize); err != nil {
		return nil, err
	}
	first := make([]byte, min(fileSize, h.ClusterSize))
	if err := readFull(r, first, 0); err != nil {
		return nil, err
	}
	return h, h.parseBacking(first, length)
}

// parseVersion reads what the rest depends on.
func (h *header) parseVersion(raw []byte) (length int64, features uint64, err error) {
	be := binary.BigEndian
	h.Version = int(be.Uint32(raw[4:]))
	if h.Version != 2 && h.Version != 3 {
		return 0, 0, unsupported("it has version %d of the format; convert it to version 3 with qemu-img convert", h.Version)
	}
	shift := be.Uint32(raw[20:])
	if shift < clusterBitsMin || shift > clusterBitsMax {
		return 0, 0, malformed(20, "clusters of 2^%d bytes; a cluster has 2^%d to 2^%d", shift, clusterBitsMin, clusterBitsMax)
	}
	h.ClusterSize = 1 << shift
	h.RefcountBits = 16
	if h.Version == 2 {
		return headerLength2, 0, nil
	}
	if len(raw) < headerLength3 {
		return 0, 0, malformed(int64(len(raw)), "the file ends within its header")
	}
	length = int64(be.Uint32(raw[100:]))
	if length < headerLength3 || length > h.ClusterSize || length%8 != 0 {
		return 0, 0, malformed(100, "a header of %d bytes; it has %d or more, a multiple of 8, and lies in the first cluster", length, headerLength3)
	}
	order := be.Uint32(raw[96:])
	if order > refcountOrderMax {
		return 0, 0, malformed(96, "reference counts of 2^%d bits; they have 2^%d at most", order, refcountOrderMax)
	}
	h.RefcountBits = 1 << order
	h.LazyRefcounts = be.Uint64(raw[80:])&1 != 0
	return length, be.Uint64(raw[72:]), nil
}

// parseFeatures refuses what cannot be read.
func (h *header) parseFeatures(raw []byte, length int64, features uint64) error {
	switch method := binary.BigEndian.Uint32(raw[32:]); method {
	case 0:
	case 1, 2:
		return unsupported("it is encrypted (%s); write it without encryption, the store is the place to encrypt", [...]string{1: "AES", 2: "LUKS"}[method])
	default:
		return unsupported("it is encrypted with the unknown method %d; write it without encryption", method)
	}
	if unknown := features &^ featuresKnown; unknown != 0 {
		return unsupported("it needs features this program does not know (incompatible bits %s); convert it with qemu-img convert", bitList(unknown))
	}
	if features&featureCorrupt != 0 {
		return unsupported("it is marked as corrupt; repair it with qemu-img check -r all, and compare it with its source, before it is used as a backup")
	}
	if features&featureDataFile != 0 {
		return unsupported("its data is in a file beside it (data_file); convert it with qemu-img convert, or send the data file as a raw image")
	}
	h.Dirty = features&featureDirty != 0
	h.ExtendedL2 = features&featureExtendedL2 != 0
	if h.ExtendedL2 && h.ClusterSize < subclusters*sectorSize {
		return malformed(20, "clusters of %d bytes are too small to be divided into subclusters", h.ClusterSize)
	}
	return h.parseCompression(raw, length, features&featureCompression != 0)
}

func (h *header) parseCompression(raw []byte, length int64, flagged bool) error {
	kind := byte(0)
	if length > compressionAt && len(raw) > compressionAt {
		kind = raw[compressionAt]
	}
	if flagged != (kind != 0) {
		return malformed(compressionAt, "compression type %d and the feature bit for it contradict each other", kind)
	}
	switch kind {
	case 0:
		h.Compression = compressedZlib
	case 1:
		h.Compression = compressedZstd
	default:
		return unsupported("its clusters are compressed with the unknown method %d; convert it with qemu-img convert", kind)
	}
	return nil
}

// parseTables finds the L1 and the refcount table.
func (h *header) parseTables(raw []byte, fileSize int64) error {
	be := binary.BigEndian
	size := be.Uint64(raw[24:])
	if size > uint64(sizeMax) {
		return unsupported("its disk has %d bytes; the limit is %d (1 PiB)", size, sizeMax)
	}
	h.size = int64(size)
	h.l1Entries = int64(be.Uint32(raw[36:]))
	if h.l1Entries*8 > l1BytesMax {
		return malformed(36, "an L1 table of %d entries; it has %d at most", h.l1Entries, l1BytesMax/8)
	}
	if need := divUp(h.size, h.tableSpan()); h.l1Entries < need {
		return malformed(36, "an L1 table of %d entries; a disk of %d bytes needs %d", h.l1Entries, h.size, need)
	}
	h.refcountLength = int64(be.Uint32(raw[56:])) * h.ClusterSize
	if h.refcountLength == 0 || h.refcountLength > refcountTableBytesMax {
		return malformed(56, "a refcount table of %d bytes; it has 1 to %d", h.refcountLength, refcountTableBytesMax)
	}
	h.Snapshots = int(be.Uint32(raw[60:]))
	var err error
	if h.l1, err = h.tableAt(raw, 40, h.l1Entries*8, fileSize, "L1 table"); err != nil {
		return err
	}
	h.refcountTable, err = h.tableAt(raw, 48, h.refcountLength, fileSize, "refcount table")
	return err
}

// tableAt reads the header's field with the place of a table of length bytes.
func (h *header) tableAt(raw []byte, field int, length, fileSize int64, what string) (int64, error) {
	at := binary.BigEndian.Uint64(raw[field:])
	if at%uint64(h.ClusterSize) != 0 {
		return 0, malformed(int64(field), "the %s is at %d, not at the beginning of a cluster", what, at)
	}
	if at > uint64(fileSize) || length > fileSize-int64(at) {
		return 0, malformed(int64(field), "the %s, %d bytes at %d, ends outside the file of %d bytes: is the file complete?", what, length, at, fileSize)
	}
	return int64(at), nil
}

// parseBacking reads the extensions and the backing file's name from the first
// cluster.
func (h *header) parseBacking(first []byte, length int64) error {
	be := binary.BigEndian
	at, n := be.Uint64(first[8:]), int64(be.Uint32(first[16:]))
	end := int64(len(first))
	if at != 0 {
		if at < uint64(length) || at > uint64(end) || n > min(backingNameMax, end-int64(at)) {
			return malformed(8, "a backing file name of %d bytes at %d; it has %d at most and lies between the header and the end of the first cluster", n, at, backingNameMax)
		}
		end = int64(at)
		h.BackingName = string(first[end : end+n])
		if strings.IndexByte(h.BackingName, 0) >= 0 {
			return malformed(end, "the backing file name %q contains a zero byte", h.BackingName)
		}
	}
	return h.parseExtensions(first[:end], min(length, end))
}

func (h *header) parseExtensions(area []byte, pos int64) error {
	end := int64(len(area))
	for end-pos >= 8 {
		kind, n := binary.BigEndian.Uint32(area[pos:]), int64(binary.BigEndian.Uint32(area[pos+4:]))
		if kind == extensionEnd {
			return nil
		}
		if n > end-pos-8 {
			return malformed(pos, "a header extension of %d bytes does not fit before the backing file name or the end of the first cluster", n)
		}
		if kind == extensionName {
			if h.BackingFormat != "" || n > backingFormatMax {
				return malformed(pos, "the backing file's format is given twice, or in %d bytes; it has %d at most", n, backingFormatMax)
			}
			h.BackingFormat = string(area[pos+8 : pos+8+n])
		}
		pos += 8 + (n+7)&^7
	}
	return nil
}

// entrySize is the length of an entry of an L2 table, in bytes.
func (h *header) entrySize() int64 {
	if h.ExtendedL2 {
		return 16
	}
	return 8
}

// tableSpan is how many bytes of disk one L2 table describes.
func (h *header) tableSpan() int64 { return h.ClusterSize / h.entrySize() * h.ClusterSize }

// bitList names the bits that are set.
func bitList(set uint64) string {
	var list []string
	for ; set != 0; set &= set - 1 {
		list = append(list, fmt.Sprint(bits.TrailingZeros64(set)))
	}
	return strings.Join(list, ", ")
}

// readFull fills p from off.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %d bytes at %d of the qcow2 file: %w", len(p), off, err)
}
