// Package identity reads strongroom.json, which makes a data directory a store.
package identity

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/internal/atomicfile"
)

const (
	// FileName is the file's name in a data directory and beside the packs.
	FileName = "strongroom.json"
	// Format is the format this program writes, and the highest it reads.
	Format = 1
	// bytesMax is many times what the file takes.
	bytesMax = 64 << 10
)

// ErrNewer is an identity that a later version of Strongroom wrote.
var ErrNewer = errors.New("written by a newer version of Strongroom")

// Identity is strongroom.json. The domain key keys every hash; without it the
// store's data cannot be verified or deduplicated against, so a copy lies
// beside the packs.
type Identity struct {
	Format    int       `json:"format"`
	StoreID   string    `json:"store_id"` // 32 hex digits
	Created   time.Time `json:"created"`
	Domain    uint32    `json:"domain"`
	DomainKey string    `json:"domain_key"` // 64 hex digits; secret

	Store [16]byte `json:"-"` // StoreID
	Key   [32]byte `json:"-"` // DomainKey
}

// Read reads the file under path. A missing one matches fs.ErrNotExist.
func Read(vfsys vfs.FS, path string) (Identity, error) {
	text, err := atomicfile.Read(vfsys, path, bytesMax)
	if err != nil {
		return Identity{}, err
	}
	id, err := Parse(text)
	if err != nil {
		return id, fmt.Errorf("%s: %w", path, err)
	}
	return id, nil
}

// Parse reads the file's text. A higher format matches ErrNewer.
func Parse(text []byte) (id Identity, err error) {
	if err := json.Unmarshal(text, &id); err != nil {
		return id, fmt.Errorf("not the identity of a store: %w", err)
	}
	if id.Format > Format {
		return id, fmt.Errorf("data directory of format %d, but this program knows %d: %w; nothing was changed", id.Format, Format, ErrNewer)
	}
	if id.Format != Format || id.Domain == 0 || !unhex(id.Store[:], id.StoreID) || !unhex(id.Key[:], id.DomainKey) {
		return id, errors.New("the identity of the store is damaged; bring the file back from its copy or from a backup")
	}
	return id, nil
}

func unhex(dst []byte, text string) bool {
	b, err := hex.DecodeString(text)
	return err == nil && copy(dst, b) == len(dst) && len(b) == len(dst)
}
