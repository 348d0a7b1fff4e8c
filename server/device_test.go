package server

import (
	"fmt"
	"testing"

	"github.com/strongroom-backup/strongroom/nbd"
	"github.com/strongroom-backup/strongroom/nbd/nbdtest"
	"github.com/strongroom-backup/strongroom/server/api"
)

// TestDevicesKeepTheirPromises runs the NBD server's conformance suite over the
// disks of sessions, full and incremental, and over the image of a point.
func TestDevicesKeepTheirPromises(t *testing.T) {
	w := start(t)
	open := func(name string) func() nbd.Device {
		return func() nbd.Device {
			d, _, err := w.exports.Open(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
	}
	for i, size := range []int64{mib, 2*mib + 512, 130*mib + 7} {
		vm := fmt.Sprintf("vm%d", i)
		for _, mode := range []string{"full", "incremental"} {
			t.Run(fmt.Sprintf("session/%s/%d", mode, size), func(t *testing.T) {
				b := w.open(vm, api.DiskRequest{Disk: "vda", Size: size})
				if string(b.Disks[0].Mode) != mode {
					t.Fatalf("mode %s, want %s", b.Disks[0].Mode, mode)
				}
				nbdtest.TestDevice(t, open(b.Disks[0].Export))
				w.commit(b.Session)
			})
		}
	}
	content := append(random(1, 2*mib+512), make([]byte, mib)...)
	w.backup("image", "vda", content)
	t.Run("image", func(t *testing.T) { nbdtest.TestReadOnlyDevice(t, open("image/vda@latest"), content) })
}
