package catalog

import (
	"encoding/binary"
	"fmt"
	"time"
)

// watermark says which part of the metadata log the database holds, and keeps
// what must never be given out twice.
type watermark struct {
	seq      uint64    // last record applied: a commit record
	next     ChunkNo   // number of the next chunk record
	lastTime time.Time // newest time given to a point, a removal or a merge
	queue    uint64    // number of the next queue entry
}

// newWatermark is that of an empty catalog. Times begin in 1970, so that they
// sort as the unsigned numbers they are in keys.
func newWatermark() watermark { return watermark{next: 1, lastTime: time.UnixMilli(0).UTC()} }

func (w *watermark) encode() []byte {
	b := binary.AppendUvarint(nil, w.seq)
	b = binary.AppendUvarint(b, uint64(w.next))
	b = appendTime(b, w.lastTime)
	return binary.AppendUvarint(b, w.queue)
}

func decodeWatermark(b []byte) (watermark, error) {
	d := decoder{b: b}
	w := watermark{seq: d.uvarint(), next: ChunkNo(d.size(maxChunkNo + 1)), lastTime: d.time(), queue: d.uvarint()}
	return w, d.end()
}

// formatVersion is that of the catalog database. One of a lower version is made
// anew from the metadata log.
const formatVersion = 2

// decodeOldWatermark reads how much of the log a database of version 1 holds.
func decodeOldWatermark(b []byte) (seq uint64, err error) {
	d := decoder{b: b}
	seq, _, _ = d.uvarint(), d.size(maxChunkNo+1), d.time()
	return seq, d.end()
}

func encodeFormat(store [16]byte) []byte {
	return append(binary.AppendUvarint(nil, formatVersion), store[:]...)
}

// checkFormat tells whether the database may be opened for writing, and the
// version it has.
func checkFormat(b []byte, dir string, store [16]byte) (version uint64, err error) {
	d := decoder{b: b}
	switch version = d.uvarint(); {
	case version > formatVersion:
		return version, fmt.Errorf("catalog %s: %w: format version %d, this one knows %d", dir, ErrNewer, version, formatVersion)
	case version == 0 || len(d.b) != len(store):
		return version, damagedDB(dir, fmt.Errorf("format record %x", b))
	case [16]byte(d.b) != store:
		return version, fmt.Errorf("catalog %s belongs to store %x, this is store %x: the directories of two stores are mixed up",
			dir, d.b, store)
	}
	return version, nil
}

// damagedDB says what to do about a catalog database that cannot be used.
func damagedDB(dir string, err error) error {
	return fmt.Errorf("catalog %s is %w: %w; stop the server, move the directory away and start again: "+
		"the catalog is rebuilt from the metadata log", dir, ErrCorrupt, err)
}
