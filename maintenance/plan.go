package maintenance

import (
	"errors"
	"fmt"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/internal/mutant"
	"github.com/strongroom-backup/strongroom/volume"
)

// plan answers whether a disk's next image may inherit from its parent's.
func (e *Engine) plan(q volume.PlanQuestion) (volume.PlanDecision, error) {
	bad, err := e.isDamaged(&q.Parent, q.Disk)
	if err != nil {
		return volume.PlanDecision{}, err
	}
	if bad && !mutant.On("maintenance/damaged-parent") {
		return e.full(q, "the image of point "+q.Parent.ID+" is damaged", fmt.Errorf(
			"%w: disk %s of VM %s at point %s; start with mode auto or full, which stores what is damaged again, or name a point that is whole: strongroom verify %s",
			ErrDamaged, q.Disk, q.VM, q.Parent.ID, q.Parent.ID)), nil
	}
	set, err := e.Settings(q.VM)
	if err != nil {
		return volume.PlanDecision{}, err
	}
	chain, err := e.line(&q.Parent, q.Disk)
	if err != nil {
		return volume.PlanDecision{}, err
	}
	if n := incrementals(chain, q.Disk); !q.Explicit && set.FullAfter > 0 && n >= set.FullAfter {
		return e.full(q, fmt.Sprintf("%d incremental images since the last full one", n), nil), nil
	}
	if set.ChainLimit > 0 && len(chain) >= set.ChainLimit {
		return e.shorten(q, &set, chain), nil
	}
	return volume.PlanDecision{}, nil
}

// full decides for a full image in mode auto, and for the error otherwise.
func (e *Engine) full(q volume.PlanQuestion, why string, refusal error) volume.PlanDecision {
	if q.Explicit {
		return volume.PlanDecision{Refuse: refusal}
	}
	e.count(func(s *Stats) { s.Prune.ChainFulls++ })
	return volume.PlanDecision{Full: why}
}

// line is the chain that ends in p's image of a disk: the points it hangs on,
// newest first, without those in the trash, which do not count.
func (e *Engine) line(p *catalog.Point, disk string) (chain []catalog.Point, err error) {
	for at := *p; len(chain) < maxChainWalk; {
		if at.Trashed.IsZero() {
			chain = append(chain, at)
		}
		im := imageOf(&at, disk)
		if im == nil || im.Parent == "" {
			break
		}
		at, err = e.cat.Point(im.Parent)
		if errors.Is(err, catalog.ErrNotFound) { // removed since its child was read
			break
		}
		if err != nil {
			return nil, err
		}
	}
	return chain, nil
}

// incrementals counts those at the chain's end, back to the last full image,
// those included that are gone.
func incrementals(chain []catalog.Point, disk string) (n int) {
	for i := range chain {
		im := imageOf(&chain[i], disk)
		if im.Mode == catalog.Full {
			break
		}
		n += 1 + int(im.Gone)
	}
	return n
}

// shorten makes room in a chain that is at its limit: the oldest automatic points
// go. A manual backup gets none, and neither does one whose chain has none.
func (e *Engine) shorten(q volume.PlanQuestion, set *Settings, chain []catalog.Point) volume.PlanDecision {
	limit := fmt.Errorf("%w: the chain of disk %s of VM %s has %d images and may have %d",
		ErrChainLimit, q.Disk, q.VM, len(chain), set.ChainLimit)
	const what = "start with mode full, delete a point of the chain (strongroom point rm), merge some (strongroom chain merge) or raise the limit"
	if q.Manual {
		return volume.PlanDecision{Refuse: fmt.Errorf("%w, and for a backup made by hand no point goes by itself; %s", limit, what)}
	}
	victims := e.victims(chain, set, len(chain)+1-set.ChainLimit)
	if victims == nil {
		return e.full(q, fmt.Sprintf("the chain has %d images, as many as it may, and none of them may go by itself", len(chain)),
			fmt.Errorf("%w, and none of its points may go by itself (made by hand, held, locked, in use, or the newest of another disk); %s", limit, what))
	}
	return volume.PlanDecision{First: func() error { return e.evict(victims, q, set.ChainLimit) }}
}

// victims are the n oldest points of a chain that may go by themselves; nil when
// there are not so many. The newest is what the backup hangs on; and so is the
// newest of another disk what that disk's next backup hangs on.
func (e *Engine) victims(chain []catalog.Point, set *Settings, n int) (ids []string) {
	if set.StrictChains || n > maxEvicted {
		return nil
	}
	for i := len(chain) - 1; i > 0 && len(ids) < n; i-- {
		if e.exempt(&chain[i]) == "" && !e.newestOfDisk(&chain[i]) {
			ids = append(ids, chain[i].ID)
		}
	}
	if len(ids) < n {
		return nil
	}
	return ids
}

// newestOfDisk reports whether some disk has no newer image than the point's, as
// far as can be told.
func (e *Engine) newestOfDisk(p *catalog.Point) bool {
	for _, im := range p.Images {
		newest, found, err := e.cat.Latest(p.VM, im.Disk)
		if err != nil || !found || newest.ID == p.ID {
			return true
		}
	}
	return false
}

// evict takes points out of a chain. One that has become protected meanwhile
// stays; the plan is made again after this.
func (e *Engine) evict(ids []string, q volume.PlanQuestion, limit int) error {
	for _, id := range ids {
		err := e.take(id, q.VM, fmt.Sprintf("chain limit %d of disk %s", limit, q.Disk))
		if err != nil && !isProtected(err) {
			return fmt.Errorf("make room in the chain of disk %s of VM %s: point %s: %w", q.Disk, q.VM, id, err)
		}
		if err == nil {
			e.count(func(s *Stats) { s.Prune.Evicted++ })
		}
	}
	return nil
}

// isProtected reports whether a point stays because somebody wants it.
func isProtected(err error) bool {
	return errors.Is(err, catalog.ErrHeld) || errors.Is(err, catalog.ErrLocked) ||
		errors.Is(err, volume.ErrInUse) || errors.Is(err, ErrStrictChains)
}

// purgeTime is when a point deleted now leaves the trash.
func (e *Engine) purgeTime(set *Settings) time.Time { return e.now().UTC().Add(set.TrashKeep) }
