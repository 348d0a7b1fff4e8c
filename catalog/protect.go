package catalog

import (
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/strongroom-backup/strongroom/internal/mutant"
)

// Hold keeps a point from being trashed, removed or merged away until Release,
// durably. reason is shown to who tries; it replaces that of an earlier hold.
// A point in the trash cannot be held: it fails with ErrInvalid.
func (c *Catalog) Hold(id, reason string) error {
	if reason == "" || len(reason) > MaxHoldBytes || !utf8.ValidString(reason) {
		return invalid("hold point %s: say why, in up to %d bytes of UTF-8", id, MaxHoldBytes)
	}
	return c.describe("hold", id, func(p *Point) error {
		p.Hold = reason
		return notInTrash(p)
	})
}

// Release ends a hold, durably; a lock stays.
func (c *Catalog) Release(id string) error {
	return c.describe("release", id, func(p *Point) error {
		p.Hold = ""
		return nil
	})
}

// Lock keeps a point from being trashed, removed or merged away until a date
// (kept in milliseconds, rounded up), durably. Nothing ends a lock earlier: a
// date before that of the lock there is fails with ErrLocked. A point in the
// trash cannot be locked, and a date that has passed is none: ErrInvalid.
func (c *Catalog) Lock(id string, until time.Time) error {
	if err := checkTime(until); err != nil {
		return fmt.Errorf("lock point %s: %w", id, err)
	}
	until = wholeMilliseconds(until)
	return c.describe("lock", id, func(p *Point) error {
		if err := mayLock(p, until, c.o.Clock()); err != nil {
			return err
		}
		p.LockedUntil = until
		return notInTrash(p)
	})
}

// wholeMilliseconds rounds up, so that no lock ends early.
func wholeMilliseconds(t time.Time) time.Time {
	whole := t.UTC().Truncate(time.Millisecond)
	if whole.Before(t) {
		whole = whole.Add(time.Millisecond)
	}
	return whole
}

// mayLock refuses what would shorten a lock, and what would be none.
func mayLock(p *Point, until, now time.Time) error {
	switch {
	case until.Before(p.LockedUntil) && !mutant.On("catalog/lock-shortens"):
		return fmt.Errorf("%w until %s, which cannot be shortened to %s", ErrLocked,
			p.LockedUntil.Format(time.RFC3339Nano), until.Format(time.RFC3339Nano))
	case until.Equal(p.LockedUntil):
		return nil
	case !until.After(now):
		return invalid("a lock until %s, which has passed", until.Format(time.RFC3339Nano))
	}
	return nil
}

// Locked tells whether the point is locked at a time. On the date itself the
// lock is over.
func (a *Attributes) Locked(now time.Time) bool {
	if mutant.On("catalog/lock-ends-early") {
		now = now.Add(time.Millisecond)
	}
	return now.Before(a.LockedUntil)
}

// mayGo refuses points that must stay. The clock is the server's own as it is,
// so that a clock that once was wrong and ran ahead ends no lock early.
func (c *Catalog) mayGo(p *Point) error {
	switch {
	case p.Hold != "" && !mutant.On("catalog/hold-ignored"):
		return fmt.Errorf("%w: %q; release it first", ErrHeld, p.Hold)
	case p.Locked(c.o.Clock()):
		return fmt.Errorf("%w until %s; nothing ends a lock earlier", ErrLocked, p.LockedUntil.Format(time.RFC3339Nano))
	}
	return nil
}

func notInTrash(p *Point) error {
	if p.Trashed.IsZero() {
		return nil
	}
	return invalid("it is in the trash since %s: undelete it first", p.Trashed.Format(time.RFC3339))
}
