package catalog

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/strongroom-backup/strongroom/catalog/metalog"
)

// Commit makes a point of everything n names, as one: when it returns without
// an error the point is durable, and visible to all other methods. The data
// its chunks refer to must be durable before.
//
// After an error that matches ErrReadOnly the point is there whole or not at
// all, which is known after the catalog has been opened again. After any other
// error it is not there, with one exception: when a write to the metadata log
// failed, nothing was committed since, and the catalog is then opened again,
// it may be there whole. So a caller that tries again uses the same id.
//
// An id that is in use or was once fails with ErrExists, and n that breaks a
// rule with ErrInvalid.
func (c *Catalog) Commit(n NewPoint) (Point, error) {
	start := time.Now()
	if err := n.check(); err != nil {
		return Point{}, err
	}
	if err := c.enter(); err != nil {
		return Point{}, err
	}
	defer c.leave()
	c.commit.Lock()
	defer c.commit.Unlock()
	p, err := c.commitPoint(&n)
	if err != nil {
		return Point{}, fmt.Errorf("commit point %s of VM %s: %w", n.ID, n.VM, err)
	}
	c.latency.Since(start)
	return p, nil
}

func (c *Catalog) commitPoint(n *NewPoint) (Point, error) {
	if err := c.Err(); err != nil {
		return Point{}, err
	}
	if err := c.unused(n.ID); err != nil {
		return Point{}, err
	}
	if err := c.checkParents(n); err != nil {
		return Point{}, err
	}
	t := newTransaction(n)
	t.point.Time = c.now()
	if err := c.number(t, n); err != nil {
		return Point{}, err
	}
	if err := c.write(t.records); err != nil {
		return Point{}, err
	}
	_, p, err := getPoint(c.db, n.ID)
	if err != nil {
		return Point{}, c.fail(err)
	}
	return p, nil
}

// number gives t its chunk numbers and roots.
func (c *Catalog) number(t *transaction, p *NewPoint) error {
	n, err := newNumberer(c.db, c.commit.app.mark.next)
	if err != nil {
		return err
	}
	err = t.resolve(p, n, c.o.RootHash)
	return errors.Join(err, n.it.Close())
}

// unused refuses ids of points that are here or were.
func (c *Catalog) unused(id string) error {
	_, p, err := getPoint(c.db, id)
	if err == nil {
		return fmt.Errorf("%w: it was committed at %s for VM %s", ErrExists, p.Time.Format(time.RFC3339Nano), p.VM)
	}
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	b, err := get(c.db, removedKey(id))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return missing(err, "point %s", id)
	}
	d := decoder{b: b}
	return fmt.Errorf("%w: it was committed once and removed at %s; ids are not used twice",
		ErrExists, d.time().Format(time.RFC3339Nano))
}

// checkParents refuses a parent that is another VM's or lacks the disk. One
// that has been removed meanwhile is fine, since images are complete: then the
// image has none.
func (c *Catalog) checkParents(n *NewPoint) error {
	for i := range n.Images {
		im := &n.Images[i]
		if im.Mode != Incremental {
			continue
		}
		_, p, err := getPoint(c.db, im.Parent)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if p.VM != n.VM || !p.has(im.Disk) {
			return invalid("disk %s: parent %s is a point of VM %s with disks %s", im.Disk, p.ID, p.VM, p.diskNames())
		}
	}
	return nil
}

func (p *Point) has(disk string) bool {
	return slices.ContainsFunc(p.Images, func(im Image) bool { return im.Disk == disk })
}

// write logs a transaction, syncs the log and applies it. commit must be held.
func (c *Catalog) write(records func(visitor) error) error {
	seq, err := c.log(records)
	if err != nil {
		return err
	}
	if err := records(c.commit.app.visit); err != nil {
		return c.fail(err)
	}
	if err := c.commit.app.whole(seq, pebble.Sync); err != nil {
		return c.fail(fmt.Errorf("committed to the metadata log, but the catalog %s cannot be written: %w; "+
			"restart the server to have it repeated", c.o.Dir, err))
	}
	c.accounts.kick()
	return nil
}

// log returns after the commit point.
func (c *Catalog) log(records func(visitor) error) (seq uint64, err error) {
	t, err := c.commit.log.Begin()
	if err == nil {
		if err = records(t.Add); err != nil {
			t.Abort()
		} else {
			seq, err = t.Commit()
		}
	}
	if failed := new(metalog.SyncError); errors.As(err, &failed) {
		return 0, c.fail(err)
	}
	return seq, err
}
