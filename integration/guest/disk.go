package guest

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed disk.sh
var recipe string

// partition is the byte at which the file system begins; see disk.sh.
const partition = 1 << 20

// Disk is the path of a qcow2 image with a Debian that starts by itself. It
// belongs to the cache: open overlays of it, never itself for writing.
func Disk(ctx context.Context) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	key := sha256.Sum256([]byte(recipe))
	path := filepath.Join(cache, fmt.Sprintf("guest-%x.qcow2", key[:8]))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	work, err := os.MkdirTemp(cache, "building-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	cmd := exec.CommandContext(ctx, "bash", "-s", work)
	if err := run(cmd, recipe); err != nil {
		return "", fmt.Errorf("make the guest's disk: %w", err)
	}
	return path, os.Rename(filepath.Join(work, "disk.qcow2"), path)
}

func cacheDir() (string, error) {
	dir := os.Getenv("STRONGROOM_CACHE")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			base = os.TempDir() // no home: continuous integration
		}
		dir = filepath.Join(base, "strongroom-tests")
	}
	return dir, os.MkdirAll(dir, 0o755)
}
