package catalog

import (
	"encoding/binary"
	"fmt"

	"github.com/strongroom-backup/strongroom/dedup"
)

// StoreUsage returns what everything takes: all points, those in the trash and
// removed ones still in use included; Logical, Transferred and New are without
// the latter. Nothing is shared.
func (c *Catalog) StoreUsage() (Usage, error) {
	if err := c.enter(); err != nil {
		return Usage{}, err
	}
	defer c.leave()
	a := &c.accounts
	a.asking.Lock()
	defer a.asking.Unlock()
	u, err := a.everything()
	if err == nil {
		return u, nil
	}
	if a.mend(err) {
		u, err = a.everything()
	}
	if err != nil {
		return Usage{}, fmt.Errorf("usage of the store: %w", err)
	}
	return u, nil
}

// everything answers StoreUsage. asking is held.
func (a *accounts) everything() (u Usage, err error) {
	followed := a.touches.follow()
	view, err := a.settled()
	if err != nil {
		return u, err
	}
	defer view.Close()
	keep, err := a.fresh(view)
	if err != nil {
		return u, err
	}
	if known, ok := a.asking.answers[storeKey]; ok && keep {
		return known[""], nil
	}
	count := func(p *Point) error {
		for _, im := range appendAsked(appendAskedFiles(nil, p, ""), p, "") {
			u.describe(&im.usage)
		}
		return nil
	}
	if err := eachPoint(view, "", count); err != nil {
		return u, err
	}
	if err := eachTrashed(view, "", count); err != nil {
		return u, err
	}
	u.Unique = int64(view.live) * blockBytes
	u.UniqueStored, err = a.storedByAll(view, followed)
	u.Stored = u.UniqueStored
	if err == nil && keep {
		a.asking.keep(storeKey, map[string]Usage{"": u})
	}
	return u, err
}

const storeKey = "store"

// packSums remember for each pack what its live blocks take. The first question
// makes them; later ones find out anew what has changed. A pack takes 24 bytes,
// which is 384 KiB for each TiB stored.
type packSums struct {
	packs map[uint64]*[sumGroup]packSum // by pack / sumGroup
	total int64
}

const sumGroup = 256

type packSum struct {
	version uint64 // the pack's, just before stored was found out
	stored  int64  // bytes of live blocks
	live    bool   // there are any
}

// storedByAll returns what all live blocks take. followed tells whether the
// sums have been kept in view since they were made.
func (a *accounts) storedByAll(view *accountView, followed bool) (int64, error) {
	if a.c.o.StoredBytes == nil {
		return 0, nil
	}
	s := &a.asking.sums
	_, versions := a.c.packVersion(0)
	var err error
	if !followed || !versions || s.packs == nil {
		err = a.sumAll(view)
	} else {
		err = a.sumChanged(view)
	}
	if err != nil {
		s.packs = nil
		return 0, err
	}
	return s.total, nil
}

// sumAll makes the sums.
func (a *accounts) sumAll(view *accountView) error {
	a.asking.sums = packSums{packs: map[uint64]*[sumGroup]packSum{}}
	a.touches.clean(view.touched)
	var runs []slotRun
	return scan(view, accountsPrefix(view.epoch), func(key, value []byte) (err error) {
		if a.halted() {
			return ErrClosed
		}
		if len(key) != len(pageKey(0, 0)) {
			return fmt.Errorf("%w: a page has the key %x", ErrAccounts, key)
		}
		pack := binary.BigEndian.Uint64(key[2:])
		if runs, err = decodePage(runs[:0], value); err != nil {
			return damagedPage(pack)
		}
		return a.sumPack(pack, runs)
	})
}

// sumChanged makes the sums anew of packs whose pages or whose contents have
// changed.
func (a *accounts) sumChanged(view *accountView) error {
	packs := a.touches.packs()
	for group, sums := range a.asking.sums.packs {
		for i := range sums {
			pack := group*sumGroup + uint64(i)
			if v, _ := a.c.packVersion(pack); sums[i].live && v != sums[i].version {
				packs = append(packs, pack)
			}
		}
	}
	var runs []slotRun
	for _, pack := range packs {
		if a.halted() {
			return ErrClosed
		}
		var err error
		if runs, err = getPage(view, view.epoch, pack, runs[:0]); err != nil {
			return err
		}
		if err := a.sumPack(pack, runs); err != nil {
			return err
		}
	}
	a.touches.clean(view.touched)
	return nil
}

// sumPack sets the sum of a pack.
func (a *accounts) sumPack(pack uint64, runs []slotRun) error {
	version, _ := a.c.packVersion(pack)
	q := &a.asking
	q.addrs = q.addrs[:0]
	for _, r := range runs {
		for slot := r.first; slot < r.first+r.n; slot++ {
			q.addrs = append(q.addrs, dedup.MakeAddr(pack, uint16(slot)))
		}
	}
	if cap(q.stored) < len(q.addrs) {
		q.stored = make([]uint32, pageSlots)
	}
	q.stored = q.stored[:len(q.addrs)]
	if err := a.c.storedBytes(pack, q.addrs, q.stored); err != nil {
		return err
	}
	q.sums.set(pack, packSum{version, sum(q.stored), len(runs) > 0})
	return nil
}

func (s *packSums) set(pack uint64, p packSum) {
	group := s.packs[pack/sumGroup]
	if group == nil {
		group = new([sumGroup]packSum)
		s.packs[pack/sumGroup] = group
	}
	at := &group[pack%sumGroup]
	s.total += p.stored - at.stored
	*at = p
}
