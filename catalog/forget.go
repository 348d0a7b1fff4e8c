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
	for _, id := range ids {
		for more := true; more; { // a commit may come between
			err := c.exclusively(func() (err error) {
				more, err = c.forget(id)
				return err
			})
			if err != nil {
				return err
			}
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

// forget takes a step of forgetting a point and says whether there is more to
// do. It is not durable before sync. commit must be held.
func (c *Catalog) forget(id string) (more bool, err error) {
	if _, err := get(c.db, pendingKey(id)); errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	} else if err != nil {
		return false, unreadable("removed point "+id, err)
	}
	if more, err = c.commit.app.forget(id); err != nil {
		return false, c.fail(fmt.Errorf("forget removed point %s: %w", id, err))
	}
	c.accounts.kick()
	return more, nil
}

// forgetAll forgets what was removed before Open.
func (c *Catalog) forgetAll() error {
	ids, err := removed(c.db)
	if err != nil || len(ids) == 0 {
		return err
	}
	for _, id := range ids {
		for more := true; more; {
			if more, err = c.forget(id); err != nil {
				return err
			}
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

// forget drops the next a.step entries of a removed point's chunk lists, and the
// point itself with the last.
func (a *applier) forget(id string) (more bool, err error) {
	var refs refChanges
	ch := change{mark: a.mark}
	if more, err = a.dropLists(id, &refs); err != nil {
		return false, err
	}
	if ch.died, err = refs.write(a.db, a.batch); err != nil {
		return false, err
	}
	err = errors.Join(bury(a.db, a.batch, ch.died), ch.mark.enqueue(a.batch, queueDied, ch.died))
	if err == nil && !more {
		ch.pending = -1
		err = a.batch.Delete(pendingKey(id), nil)
	}
	if err != nil {
		return false, err
	}
	return more, a.finish(&ch, pebble.NoSync)
}

var errEnough = errors.New("enough")

// dropLists takes whole lists, and then the beginning of one.
func (a *applier) dropLists(id string, refs *refChanges) (more bool, err error) {
	left := a.step
	err = scan(a.db, imageKey(id, ""), func(key, value []byte) error {
		list, err := decodeChunkList(value)
		if err != nil {
			return damaged("an image of point "+id, err)
		}
		n := min(left, len(list))
		left -= n
		if err := refs.list(appendChunkList(nil, list[:n]), -1); err != nil {
			return err
		}
		if n == len(list) {
			return a.batch.Delete(key, nil)
		}
		return errors.Join(errEnough, a.batch.Set(key, appendChunkList(nil, list[n:]), nil))
	})
	if errors.Is(err, errEnough) {
		return true, nil
	}
	return false, err
}
