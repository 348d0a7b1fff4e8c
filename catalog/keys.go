package catalog

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/strongroom-backup/strongroom/dedup"
)

// Keys of the catalog database. Numbers in keys are big-endian, so that they
// sort; names hold no zero byte.
const (
	keyFormat    = 'f' // → format version, store id
	keyWatermark = 'w' // → what of the metadata log has been applied
	keyVM        = 'v' // VM → summary of its points
	keyPoint     = 'r' // VM 0 u64 commit time in ms → live point
	keyPointVM   = 'P' // point id → commit time, whether in the trash, VM
	keyRemoved   = 't' // point id → time of removal
	keyImage     = 'i' // point id 0 disk → chunk list
	keyBlob      = 'b' // point id 0 name → bytes
	keyChunk     = 'c' // u64 chunk number → chunk record
	keyChunkHash = 'C' // chunk hash → u64 chunk number
	keyTrashed   = 'x' // VM 0 u64 commit time in ms → point in the trash
	keyPending   = 'd' // point id → nothing: removed, its images not forgotten yet
	keyRefs      = 'n' // u64 chunk number / refPage → references to the chunks of that page
	keyPolicy    = 'y' // VM → policy
	keyQueue     = 'q' // u64 running number → chunks born or died, for the accounts
)

func vmKey(vm string) []byte { return append([]byte{keyVM}, vm...) }

// pointsPrefix is what the keys of a VM's points begin with.
func pointsPrefix(vm string) []byte {
	return append(append([]byte{keyPoint}, vm...), 0)
}

func pointKey(vm string, t time.Time) []byte {
	return binary.BigEndian.AppendUint64(pointsPrefix(vm), uint64(t.UnixMilli()))
}

func pointVMKey(id string) []byte { return append([]byte{keyPointVM}, id...) }
func policyKey(vm string) []byte  { return append([]byte{keyPolicy}, vm...) }
func pendingKey(id string) []byte { return append([]byte{keyPending}, id...) }
func removedKey(id string) []byte { return append([]byte{keyRemoved}, id...) }

func partKey(kind byte, id, name string) []byte {
	b := append([]byte{kind}, id...)
	return append(append(b, 0), name...)
}

// splitPart reads a key partKey made.
func splitPart(key []byte) (id, name string, err error) {
	before, after, ok := bytes.Cut(key[1:], []byte{0})
	if !ok {
		return "", "", errDecode
	}
	return string(before), string(after), nil
}

func imageKey(id, disk string) []byte { return partKey(keyImage, id, disk) }
func blobKey(id, name string) []byte  { return partKey(keyBlob, id, name) }

func chunkKey(n ChunkNo) []byte {
	return binary.BigEndian.AppendUint64([]byte{keyChunk}, uint64(n))
}

func chunkHashKey(h dedup.Hash) []byte { return append([]byte{keyChunkHash}, h[:]...) }

// keysAfter is the end of the range of keys that begin with prefix.
func keysAfter(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}
