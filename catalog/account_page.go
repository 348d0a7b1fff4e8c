package catalog

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// keyAccounts: alone → accountState; epoch (1 byte), u64 pack → page.
const keyAccounts = 'k'

// slotRun says that count references lead to each of n slots from first on.
type slotRun struct {
	first, n uint32
	count    uint64
}

// pageSlots is one more than the highest slot an address can name.
const pageSlots = 1 << 16

func accountsPrefix(epoch byte) []byte { return []byte{keyAccounts, epoch} }

func pageKey(epoch byte, pack uint64) []byte {
	return binary.BigEndian.AppendUint64(accountsPrefix(epoch), pack)
}

// appendPage encodes a pack's runs, which are in order: of each the slots
// without references since the run before, its length less one, its count.
func appendPage(b []byte, runs []slotRun) []byte {
	end := uint32(0)
	for _, r := range runs {
		b = binary.AppendUvarint(b, uint64(r.first-end))
		b = binary.AppendUvarint(b, uint64(r.n-1))
		b = binary.AppendUvarint(b, r.count)
		end = r.first + r.n
	}
	return b
}

// decodePage appends a page's runs to runs. A page has at least one; runs are
// maximal.
func decodePage(runs []slotRun, b []byte) ([]slotRun, error) {
	d := decoder{b: b}
	end, last := uint64(0), uint64(0) // count of the run that ends there
	for again := true; again; again = len(d.b) > 0 {
		gap, n, count := d.size(pageSlots-1), d.size(pageSlots-1)+1, d.size(maxSlotCount)
		if d.bad || count == 0 || end+gap+n > pageSlots || gap == 0 && count == last {
			return runs, errDecode
		}
		runs = append(runs, slotRun{first: uint32(end + gap), n: uint32(n), count: count})
		end, last = end+gap+n, count
	}
	return runs, nil
}

// getPage appends the runs of a pack to runs; none are there when nothing leads
// to the pack.
func getPage(r pebble.Reader, epoch byte, pack uint64, runs []slotRun) ([]slotRun, error) {
	v, closer, err := r.Get(pageKey(epoch, pack))
	if err == pebble.ErrNotFound {
		return runs, nil
	}
	if err != nil {
		return runs, unreadable(pageName(pack), err)
	}
	defer closer.Close()
	if runs, err = decodePage(runs, v); err != nil {
		return runs, damagedPage(pack)
	}
	return runs, nil
}

func pageName(pack uint64) string { return fmt.Sprintf("the slots of pack %d in use", pack) }

// damagedPage is mended by making the accounts anew.
func damagedPage(pack uint64) error {
	return fmt.Errorf("%w: the record of %s cannot be decoded", ErrAccounts, pageName(pack))
}

// liveSlots counts the slots of runs.
func liveSlots(runs []slotRun) (n int64) {
	for _, r := range runs {
		n += int64(r.n)
	}
	return n
}

// pageSum adds up changes to one pack's counts.
type pageSum struct {
	diff []int64 // of a slot's count and the one's before; pageSlots+1 long, zero between uses
	end  uint32  // diff is zero from here on, but for diff[end]
}

func newPageSum() *pageSum { return &pageSum{diff: make([]int64, pageSlots+1)} }

// add counts n slots from first on delta times more.
func (p *pageSum) add(first, n uint32, delta int64) {
	p.diff[first] += delta
	p.diff[first+n] -= delta
	p.end = max(p.end, first+n)
}

// take appends the sums as runs and is empty again. ok is false when a count
// is below zero.
func (p *pageSum) take(runs []slotRun) (_ []slotRun, ok bool) {
	ok = true
	count, start := int64(0), uint32(0)
	for at := range p.end + 1 {
		d := p.diff[at]
		if d == 0 {
			continue
		}
		p.diff[at] = 0
		if count > 0 {
			runs = append(runs, slotRun{first: start, n: at - start, count: uint64(count)})
		}
		count, start = count+d, at
		ok = ok && count >= 0
	}
	p.end = 0
	return runs, ok
}
