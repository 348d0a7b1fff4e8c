package maintenance

import (
	"testing"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/volume"
)

// TestChainLimitSparesOtherDisks: what a disk's next backup hangs on does not go
// for the chain of another disk.
func TestChainLimitSparesOtherDisks(t *testing.T) {
	w := newWorld(t, Config{Settings: Settings{ChainLimit: 3}})
	vda := volume.DiskSpec{Name: "vda", Size: 4 * block}
	both := []volume.DiskSpec{vda, {Name: "vdb", Size: 4 * block}}
	first := w.days(volume.StartRequest{VM: "vm", Disks: both}, 1)[0]
	second := w.days(volume.StartRequest{VM: "vm", Disks: both[:1]}, 1)[0]
	w.days(volume.StartRequest{VM: "vm", Disks: both[:1]}, 1)
	st, _, err := w.begin(volume.StartRequest{VM: "vm", Mode: "incremental", Disks: both}, 0)
	w.must(err)
	for _, d := range st.Disks {
		if d.Mode != catalog.Incremental || d.Disk == "vdb" && d.Parent != first.ID {
			t.Errorf("%+v", d)
		}
	}
	if _, err := w.cat.Point(first.ID); err != nil {
		t.Errorf("the newest point of vdb: %v", err)
	}
	if p, err := w.cat.Point(second.ID); err == nil && p.Trashed.IsZero() {
		t.Error("the oldest point that may go is there")
	}
}
