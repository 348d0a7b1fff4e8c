package catalog

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Audit is what AuditAccounts found. Packs nothing leads to are not looked at:
// marks there are missing from Marked when it is compared with a tally.
type Audit struct {
	Packs     int64  // compared
	Counted   int64  // slots something leads to
	Marked    int64  // slots that are marked
	Unmarked  int64  // counted, but not marked
	Uncounted int64  // marked, but not counted
	First     uint64 // first pack with a discrepancy
}

// AuditAccounts compares the accounts with the marks of a garbage collection.
// live returns a pack's marks, bit slot&63 of word slot>>6, nil for a pack that
// is not to be compared: dedup's (*Collection).Live is made for it. It must
// have the marks of everything committed by now.
//
// A slot that is counted and not marked is an error always, matching
// ErrAccounts: it may be the mark that is wrong, and nothing should be deleted
// for it. One that is marked and not counted is an error only if exact says
// that nothing but points was marked and none was forgotten since.
func (c *Catalog) AuditAccounts(live func(pack uint64) []uint64, exact bool) (Audit, error) {
	if err := c.enter(); err != nil {
		return Audit{}, err
	}
	defer c.leave()
	a := &c.accounts
	view, err := a.settled()
	if err != nil {
		return Audit{}, err
	}
	defer view.Close()
	var found Audit
	var runs []slotRun
	err = scan(view, accountsPrefix(view.epoch), func(key, value []byte) (err error) {
		if a.halted() {
			return ErrClosed
		}
		pack := binary.BigEndian.Uint64(key[2:])
		if runs, err = decodePage(runs[:0], value); err != nil {
			return damagedPage(pack)
		}
		if marks := live(pack); marks != nil {
			found.pack(pack, runs, marks)
		}
		return nil
	})
	if err == nil && (found.Unmarked > 0 || exact && found.Uncounted > 0) {
		err = fmt.Errorf("%w, or a mark is: of %d slots in use in %d packs %d are not marked, and %d marked ones are not in use, "+
			"the first in pack %d", ErrAccounts, found.Counted, found.Packs, found.Unmarked, found.Uncounted, found.First)
	}
	return found, err
}

// pack compares one pack.
func (f *Audit) pack(pack uint64, runs []slotRun, marks []uint64) {
	marked, both := int64(0), int64(0)
	for _, w := range marks {
		marked += int64(bits.OnesCount64(w))
	}
	for _, r := range runs {
		for s := r.first; s < r.first+r.n; s++ {
			if i := s >> 6; i < uint32(len(marks)) && marks[i]>>(s&63)&1 == 1 {
				both++
			}
		}
	}
	counted := liveSlots(runs)
	if (counted != both || marked != both) && f.Unmarked+f.Uncounted == 0 {
		f.First = pack
	}
	f.Packs++
	f.Counted += counted
	f.Marked += marked
	f.Unmarked += counted - both
	f.Uncounted += marked - both
}
