package nbdtest_test

import (
	"testing"

	"github.com/strongroom-backup/strongroom/nbd"
	"github.com/strongroom-backup/strongroom/nbd/nbdtest"
)

func TestMemoryDisk(t *testing.T) {
	for _, size := range []int64{1 << 20, 2<<20 + 512, 130<<20 + 7} {
		d := nbdtest.NewDisk(size)
		nbdtest.TestDevice(t, d.Open)
		if d.Opened.Load() != d.Closed.Load() {
			t.Errorf("%d opened, %d closed", d.Opened.Load(), d.Closed.Load())
		}
		if size < 4<<20 {
			nbdtest.TestReadOnlyDevice(t, func() nbd.Device { return d.Open() }, d.Bytes())
		}
	}
}
