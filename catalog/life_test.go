package catalog

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// mustDo fails the test on the first error.
func mustDo(t testing.TB, errs ...error) {
	t.Helper()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("step %d: %v", i+1, err)
		}
	}
}

// chain commits points first … last of VM vm with disk vda, each the child of
// the one before, with one chunk of its own and one all have.
func chain(t testing.TB, c *Catalog, first, last int) {
	t.Helper()
	for i := first; i <= last; i++ {
		n := onePoint(i, "vm", ChunkRef{New: testChunk(uint64(i))}, ChunkRef{New: testChunk(9999)})
		n.Images[0].WrittenBytes, n.Images[0].Checkpoint = 1<<i, fmt.Sprintf("cp%d", i)
		if i > first {
			n.Images[0].Mode, n.Images[0].Parent = Incremental, testID(i-1)
		}
		mustCommit(t, c, n)
	}
}

// TestRefusals: what must stay stays, whoever asks; nothing is changed by a
// refusal, and the error says what is the matter.
func TestRefusals(t *testing.T) {
	until := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	purge := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	pull := func(from, into int) func(*Catalog) error {
		return func(c *Catalog) error {
			_, err := c.Merge(MergeRequest{"vm", "vda", testID(from), testID(into)})
			return err
		}
	}
	do := func(what func(*Catalog, string) error) func(*Catalog) error {
		return func(c *Catalog) error { return what(c, testID(2)) }
	}
	hold := do(func(c *Catalog, id string) error { return c.Hold(id, "case 17") })
	lock := do(func(c *Catalog, id string) error { return c.Lock(id, until) })
	trash := do(func(c *Catalog, id string) error { return c.Trash(id, purge) })
	remove := do(func(c *Catalog, id string) error { return c.Remove(id) })
	lockAt := func(at time.Time) func(*Catalog) error {
		return do(func(c *Catalog, id string) error { return c.Lock(id, at) })
	}
	for name, x := range map[string]struct {
		before, try func(*Catalog) error
		want        error
		says        string
	}{
		"trash a held point":            {hold, trash, ErrHeld, "case 17"},
		"remove a held point":           {hold, remove, ErrHeld, "release it first"},
		"trash a locked point":          {lock, trash, ErrLocked, "2030-01-01"},
		"remove a locked point":         {lock, remove, ErrLocked, "2030-01-01"},
		"shorten a lock":                {lock, lockAt(until.Add(-time.Millisecond)), ErrLocked, "shortened"},
		"lock to a date that has gone":  {hold, lockAt(until.AddDate(-10, 0, 0)), ErrInvalid, "passed"},
		"lock to no date":               {hold, lockAt(time.Time{}), ErrInvalid, "1970"},
		"hold in the trash":             {trash, hold, ErrInvalid, "undelete"},
		"lock in the trash":             {trash, lock, ErrInvalid, "undelete"},
		"purge at no date":              {hold, do(func(c *Catalog, id string) error { return c.Trash(id, time.Time{}) }), ErrInvalid, "purged"},
		"hold without a reason":         {lock, do(func(c *Catalog, id string) error { return c.Hold(id, "") }), ErrInvalid, "why"},
		"hold with a book":              {lock, do(func(c *Catalog, id string) error { return c.Hold(id, strings.Repeat("x", MaxHoldBytes+1)) }), ErrInvalid, "1024"},
		"trash what was removed":        {remove, trash, ErrNotFound, "removed at"},
		"undelete what was removed":     {remove, do((*Catalog).Undelete), ErrNotFound, "removed at"},
		"remove what was removed":       {remove, remove, ErrNotFound, "removed at"},
		"release what never was":        {hold, func(c *Catalog) error { return c.Release(testID(77)) }, ErrNotFound, testID(77)},
		"forget a live point":           {hold, do(func(c *Catalog, id string) error { return c.Forget(id) }), ErrInvalid, "not been removed"},
		"forget a point in the trash":   {trash, do(func(c *Catalog, id string) error { return c.Forget(id) }), ErrInvalid, "not been removed"},
		"forget what never was":         {hold, func(c *Catalog) error { return c.Forget(testID(77)) }, ErrNotFound, testID(77)},
		"merge a held point up":         {hold, pull(1, 3), ErrHeld, testID(2)},
		"merge a held point down":       {hold, pull(3, 1), ErrHeld, testID(2)},
		"merge a locked point up":       {lock, pull(2, 4), ErrLocked, testID(2)},
		"merge into a held point":       {hold, pull(4, 2), ErrHeld, testID(2)},
		"merge into a locked point":     {lock, pull(3, 2), ErrLocked, testID(2)},
		"merge over the trash":          {trash, pull(1, 3), ErrInvalid, "trash"},
		"merge from the trash":          {trash, pull(2, 3), ErrInvalid, "trash"},
		"merge into the trash":          {trash, pull(3, 2), ErrInvalid, "trash"},
		"merge a point with itself":     {lock, pull(3, 3), ErrInvalid, "same"},
		"merge branches":                {lock, pull(6, 5), ErrInvalid, "descend"},
		"merge branches the other way":  {lock, pull(5, 6), ErrInvalid, "descend"},
		"merge unrelated chains":        {lock, pull(7, 5), ErrInvalid, "descend"},
		"merge unrelated, newer as top": {lock, pull(5, 7), ErrInvalid, "descend"},
		"merge what never was":          {lock, pull(77, 1), ErrNotFound, testID(77)},
		"merge another VM's":            {lock, pull(8, 1), ErrInvalid, "other"},
		"merge a disk it lacks": {lock, func(c *Catalog) error {
			_, err := c.Merge(MergeRequest{"vm", "vdb", testID(1), testID(3)})
			return err
		}, ErrNotFound, "the point has vda"},
	} {
		c := mustOpen(t, testOptions(newFS()))
		chain(t, c, 1, 5)
		branch := onePoint(6, "vm", ChunkRef{No: 1}, ChunkRef{})
		branch.Images[0].Mode, branch.Images[0].Parent = Incremental, testID(2)
		mustCommit(t, c, branch)
		mustCommit(t, c, onePoint(7, "vm", ChunkRef{No: 1}))
		mustCommit(t, c, onePoint(8, "other", ChunkRef{No: 1}))
		mustDo(t, x.before(c))
		was := dump(t, c)
		if err := x.try(c); !errors.Is(err, x.want) || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%s: %v; want %v and %q", name, err, x.want, x.says)
		}
		if is := dump(t, c); is != was {
			t.Errorf("%s changed the catalog: now\n%s\nbefore\n%s", name, is, was)
		}
		mustClose(t, c)
	}
}

// TestAgain: what is done again after a lost answer does not fail, nor write.
func TestAgain(t *testing.T) {
	until := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	full := 7
	c := mustOpen(t, testOptions(newFS()))
	defer mustClose(t, c)
	chain(t, c, 1, 6)
	for name, do := range map[string]func() error{
		"trash":    func() error { return c.Trash(testID(4), until) },
		"hold":     func() error { return c.Hold(testID(1), "why") },
		"lock":     func() error { return c.Lock(testID(1), until) },
		"release":  func() error { return c.Release(testID(5)) },
		"undelete": func() error { return c.Undelete(testID(5)) },
		"policy":   func() error { return c.SetPolicy("vm", Policy{FullAfter: &full}) },
		"merge": func() error {
			_, err := c.Merge(MergeRequest{"vm", "vda", testID(3), testID(2)})
			return err
		},
		"forget": func() error { return c.Forget(testID(3)) },
	} {
		if name == "forget" {
			continue // after merge
		}
		mustDo(t, do())
		was := dump(t, c)
		mustDo(t, do())
		if is := dump(t, c); is != was {
			t.Errorf("%s again: now\n%s\nbefore\n%s", name, is, was)
		}
	}
	mustDo(t, c.Forget(testID(3))) // merged away: there is nothing to forget
	if err := c.Trash(testID(4), until.AddDate(1, 0, 0)); err != nil {
		t.Error(err)
	}
	if p, err := c.Point(testID(4)); err != nil || !p.Purge.Equal(until) {
		t.Errorf("trashed twice it may be purged at %v, %v; want the first date", p.Purge, err)
	}
}

// TestLockEdge: a lock holds to the millisecond before its date, and not on it.
func TestLockEdge(t *testing.T) {
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	o := testOptions(newFS())
	o.Clock = func() time.Time { return now }
	c := mustOpen(t, o)
	defer mustClose(t, c)
	mustCommit(t, c, onePoint(1, "vm", ChunkRef{}))
	mustCommit(t, c, onePoint(2, "vm", ChunkRef{}))
	until := now.Add(time.Hour + time.Nanosecond) // kept as a millisecond more
	mustDo(t, c.Lock(testID(1), until), c.Lock(testID(2), until), c.Lock(testID(2), until.Add(time.Hour)))
	now = now.Add(time.Hour)
	for _, more := range []time.Duration{0, time.Nanosecond, time.Millisecond - 1} {
		now = now.Truncate(time.Millisecond).Add(more)
		for _, err := range []error{c.Remove(testID(1)), c.Trash(testID(1), until)} {
			if !errors.Is(err, ErrLocked) {
				t.Errorf("%s before the date: %v", until.Sub(now), err)
			}
		}
		if p, err := c.Point(testID(1)); err != nil || !p.Locked(now) {
			t.Errorf("at %v the point is not locked, %v", now, err)
		}
	}
	now = now.Truncate(time.Millisecond).Add(time.Millisecond)
	if p, err := c.Point(testID(1)); err != nil || p.Locked(now) {
		t.Errorf("on the date the point is locked until %v, %v", p.LockedUntil, err)
	}
	mustDo(t, c.Remove(testID(1)))
	if err := c.Remove(testID(2)); !errors.Is(err, ErrLocked) {
		t.Errorf("the lock was put off: %v", err)
	}
	// A clock that ran ahead once, so that times go on from there, ends no lock.
	real := now
	now = now.AddDate(5, 0, 0)
	mustCommit(t, c, onePoint(3, "vm", ChunkRef{}))
	now = real
	mustDo(t, c.Lock(testID(3), real.Add(time.Hour)))
	if err := c.Remove(testID(3)); !errors.Is(err, ErrLocked) {
		t.Errorf("with the catalog's time ahead of the clock: %v", err)
	}
}

func TestTrash(t *testing.T) {
	fs := newFS()
	c := mustOpen(t, testOptions(fs))
	chain(t, c, 1, 3)
	day := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	mustDo(t, c.Trash(testID(3), day.AddDate(0, 0, 1)), c.Trash(testID(2), day))
	for round := range 2 {
		list, err := c.TrashList()
		if err != nil || len(list) != 2 || list[0].ID != testID(2) || list[1].ID != testID(3) || !list[0].Purge.Equal(day) {
			t.Errorf("trash %+v, %v", list, err)
		}
		if p, ok, err := c.Latest("vm", "vda"); err != nil || !ok || p.ID != testID(1) {
			t.Errorf("latest is %s, %v, %v", p.ID, ok, err)
		}
		for _, ref := range []Ref{{Point: testID(3)}, {VM: "vm", Point: testID(3)}, {VM: "vm", Disk: "vda", Point: testID(3)}} {
			if _, err := c.Resolve(ref); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "undelete "+testID(3)) {
				t.Errorf("%s: %v", ref, err)
			}
		}
		if s := c.Stats(); s.Points != 1 || s.Trashed != 2 || s.Removed != 0 {
			t.Errorf("%+v", s)
		}
		if list, err := c.ChunkList(testID(3), "vda"); err != nil || fmt.Sprint(list) != "[4 2]" {
			t.Errorf("chunks %v, %v", list, err)
		}
		if round == 0 {
			mustClose(t, c)
			c = mustOpen(t, testOptions(fs))
		}
	}
	mustDo(t, c.Trash(testID(1), day))
	if vms, err := c.VMs(); err != nil || len(vms) != 0 {
		t.Errorf("VMs %v, %v", vms, err)
	}
	if _, err := c.Resolve(Ref{VM: "vm", Point: testID(3)}); err == nil || !strings.Contains(err.Error(), "undelete") {
		t.Errorf("of a VM that has nothing else: %v", err)
	}
	if _, err := c.Commit(onePoint(3, "vm", ChunkRef{})); !errors.Is(err, ErrExists) {
		t.Errorf("the id of a point in the trash: %v", err)
	}
	mustDo(t, c.Undelete(testID(3)))
	p, err := c.Resolve(Ref{VM: "vm"})
	if err != nil || p.ID != testID(3) || !p.Trashed.IsZero() || !p.Purge.IsZero() || p.Images[0].Parent != testID(2) {
		t.Errorf("undeleted: %+v, %v", p, err)
	}
	mustDo(t, c.Remove(testID(2)))
	if p, err = c.Point(testID(3)); err != nil || p.Images[0].Parent != testID(1) {
		t.Errorf("with its parent removed from the trash: %+v, %v", p, err)
	}
	mustClose(t, c)
}

// TestParentInTrash: a backup that began before its parent was trashed.
func TestParentInTrash(t *testing.T) {
	c := mustOpen(t, testOptions(newFS()))
	defer mustClose(t, c)
	chain(t, c, 1, 1)
	mustDo(t, c.Trash(testID(1), time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)))
	n := onePoint(2, "vm", ChunkRef{No: 1})
	n.Images[0].Mode, n.Images[0].Parent = Incremental, testID(1)
	if p := mustCommit(t, c, n); p.Images[0].Parent != testID(1) {
		t.Errorf("parent %q", p.Images[0].Parent)
	}
	mustDo(t, c.Remove(testID(1)))
	n.ID = testID(3)
	if p := mustCommit(t, c, n); p.Images[0].Parent != "" {
		t.Errorf("parent %q was removed", p.Images[0].Parent)
	}
}
