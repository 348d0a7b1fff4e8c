package catalog

import (
	"errors"
	"testing"
	"time"
)

// TestPurge: only what is in the trash, and only when its time is over. A point
// that was undeleted since somebody looked at the trash stays.
func TestPurge(t *testing.T) {
	c := mustOpen(t, testOptions(newFS()))
	defer mustClose(t, c)
	chain(t, c, 1, 3)
	day := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	mustDo(t, c.Trash(testID(1), day), c.Trash(testID(2), day), c.Undelete(testID(2)))
	was := dump(t, c)
	for id, now := range map[string]time.Time{
		testID(1): day.Add(-time.Millisecond), // too early
		testID(2): day,                        // undeleted
		testID(3): day,                        // never deleted
	} {
		if err := c.Purge(id, now); !errors.Is(err, ErrInvalid) {
			t.Errorf("purge of %s at %v: %v", id, now, err)
		}
	}
	if is := dump(t, c); is != was {
		t.Errorf("a refused purge changed the catalog to\n%s\nfrom\n%s", is, was)
	}
	mustDo(t, c.Purge(testID(1), day))
	if _, err := c.Point(testID(1)); !errors.Is(err, ErrNotFound) {
		t.Errorf("a purged point: %v", err)
	}
	if err := c.Purge(testID(1), day); !errors.Is(err, ErrNotFound) {
		t.Errorf("purge of what is gone: %v", err)
	}
}
