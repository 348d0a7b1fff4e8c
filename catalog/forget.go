package catalog

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// Removed returns the ids of points that were removed and are not forgotten.
func (c *Catalog) Removed() ([]string, error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.leave()
	return removed(c.db)
}

func removed(r pebble.Reader) (ids []string, err error) {
	err = scan(r, []byte{keyPending}, func(key, _ []byte) error {
		ids = append(ids, string(key[1:]))
		return nil
	})
	return ids, err
}

// Forget drops the chunk lists of removed points and their references to
// chunks, durably. Nobody may read these points any more. A chunk whose last
// reference goes is dead: no commit can name it again. Points forgotten before
// are passed over; one that was not removed fails with ErrInvalid, an unknown
// one with ErrNotFound, and then nothing is forgotten.
//
// Forgetting is not in the metadata log: Open forgets every removed point.
func (c *Catalog) Forget(ids ...string) error {
	if err := c.exclusively(func() error { return c.forgettable(ids) }); err != nil {
		return err
	}
	for _, id := range ids { // a commit may come between
		if err := c.exclusively(func() error { return c.forget(id) }); err != nil {
			return err
		}
	}
	return c.exclusively(c.sync)
}

// forgettable refuses points that were not removed.
func (c *Catalog) forgettable(ids []string) error {
	for _, id := range ids {
		_, p, err := getPoint(c.db, id)
		if err == nil {
			return invalid("forget point %s of VM %s: it has not been removed", id, p.VM)
		}
		if !errors.Is(err, ErrNotFound) {
			return err
		}
		if _, err := get(c.db, removedKey(id)); err != nil {
			return missing(err, "forget point %s: the point", id)
		}
	}
	return nil
}

// forget is not durable before sync. commit must be held.
func (c *Catalog) forget(id string) error {
	if _, err := get(c.db, pendingKey(id)); errors.Is(err, pebble.ErrNotFound) {
		return nil
	} else if err != nil {
		return unreadable("removed point "+id, err)
	}
	if err := c.commit.app.forget(id); err != nil {
		return c.fail(fmt.Errorf("forget removed point %s: %w", id, err))
	}
	c.accounts.kick()
	return nil
}

// forgetAll forgets what was removed before Open.
func (c *Catalog) forgetAll() error {
	ids, err := removed(c.db)
	if err != nil || len(ids) == 0 {
		return err
	}
	for _, id := range ids {
		if err := c.forget(id); err != nil {
			return err
		}
	}
	return c.sync()
}

// sync makes all batches written before durable.
func (c *Catalog) sync() error {
	if err := c.db.LogData(nil, pebble.Sync); err != nil {
		return c.fail(fmt.Errorf("sync catalog %s: %w", c.o.Dir, err))
	}
	return nil
}

// forget drops a removed point's chunk lists.
func (a *applier) forget(id string) error {
	var refs refChanges
	ch := change{mark: a.mark, pending: -1}
	err := scan(a.db, imageKey(id, ""), func(key, list []byte) error {
		if err := refs.list(list, -1); err != nil {
			return damaged("an image of point "+id, err)
		}
		return a.batch.Delete(key, nil)
	})
	if err == nil {
		ch.died, err = refs.write(a.db, a.batch)
	}
	if err != nil {
		return err
	}
	if err := errors.Join(bury(a.db, a.batch, ch.died), ch.mark.enqueue(a.batch, queueDied, ch.died),
		a.batch.Delete(pendingKey(id), nil)); err != nil {
		return err
	}
	return a.finish(&ch, pebble.NoSync)
}
