package catalog

import (
	"testing"
	"time"
)

// TestUndeleteKeeps: a point comes back from the trash as it went.
func TestUndeleteKeeps(t *testing.T) {
	o := testOptions(newFS())
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	o.Clock = func() time.Time { return now }
	c := mustOpen(t, o)
	defer mustClose(t, c)
	n := onePoint(1, "vm", ChunkRef{New: testChunk(1)})
	n.Manual = true
	mustCommit(t, c, n)
	mustDo(t, c.Lock(testID(1), now.Add(time.Hour)))
	now = now.Add(time.Hour)
	before, err := c.Point(testID(1))
	mustDo(t, err, c.Trash(testID(1), now.Add(time.Hour)), c.Undelete(testID(1)))
	after, err := c.Point(testID(1))
	mustDo(t, err)
	if after.Attributes != before.Attributes || !after.Manual || after.LockedUntil.IsZero() {
		t.Errorf("%+v, it went as %+v", after.Attributes, before.Attributes)
	}
}
