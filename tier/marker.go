package tier

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"github.com/strongroom-backup/strongroom/internal/atomicfile"
)

const (
	markerName = "TIER"
	markerHead = "strongroom tier 1\nstore "
)

func markerText(store [16]byte) []byte {
	return []byte(markerHead + hex.EncodeToString(store[:]) + "\n")
}

// checkMarker refuses a directory that is not this store's tier.
func (d *Dir) checkMarker() error {
	path := d.fs.PathJoin(d.dir, markerName)
	got, err := atomicfile.Read(d.fs, path, maxMarker)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %s has no %s file; is its disk mounted?", ErrNoTier, d.dir, markerName)
	}
	if err != nil {
		return fmt.Errorf("%w: its marker %s cannot be read: %w", ErrNoTier, path, err)
	}
	return checkMarkerText(path, got, d.store)
}

func checkMarkerText(path string, got []byte, store [16]byte) error {
	switch want := markerText(store); {
	case bytes.Equal(got, want):
		return nil
	case len(got) == len(want) && bytes.HasPrefix(got, []byte(markerHead)):
		return fmt.Errorf("%w: %s says it belongs to another store (%q)", ErrNoTier, path, got)
	default:
		return fmt.Errorf("%w: %s is damaged or of a newer format (%q)", ErrNoTier, path, got)
	}
}
