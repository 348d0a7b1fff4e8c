package maintenance

import (
	"testing"

	"github.com/strongroom-backup/strongroom/catalog/retention"
	"github.com/strongroom-backup/strongroom/volume"
)

// TestPruneStrictly removes a whole chain: with strict-chains no point can go
// while another hangs on it.
func TestPruneStrictly(t *testing.T) {
	w := newWorld(t, Config{Settings: Settings{Keep: retention.Keep{Last: 2}, StrictChains: true, FullAfter: 2}})
	points := w.days(volume.StartRequest{VM: "a"}, 8) // full, 2 incrementals, full, 2, full, 1
	res, err := w.e.Prune(t.Context(), PruneRequest{})
	w.must(err)
	for i, p := range res.Points {
		if p.Err != nil || p.Keep != (i >= 6) || p.Point != points[i].ID {
			t.Errorf("point %d: %+v", i, p)
		}
	}
	left, err := w.cat.Points("a")
	w.must(err)
	if res.Removed != 6 || len(left) != 2 {
		t.Errorf("%d removed, %d left", res.Removed, len(left))
	}
}
