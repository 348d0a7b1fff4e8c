package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/strongroom-backup/strongroom/integration/rig"
	"github.com/strongroom-backup/strongroom/internal/testdisk"
)

const (
	baseSize    = 96 << 20 // bytes of the disk most tests back up
	baseContent = 40 << 20 // bytes of files on it
)

// What TestMain made once for all tests.
var (
	binary string         // the strongroom under test
	base   *testdisk.Disk // a small ext4 of real files; tests copy it
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "strongroom-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	if binary, err = rig.Build(context.Background(), dir); err != nil {
		return fail(err)
	}
	base, err = testdisk.NewExt4(filepath.Join(dir, "base.raw"), baseSize, baseContent, "/usr/share", "/usr/lib", "/usr/bin")
	if err != nil {
		return fail(err)
	}
	return m.Run()
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "integration:", err)
	return 1
}
