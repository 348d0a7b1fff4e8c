package catalog

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/strongroom-backup/strongroom/internal/hist"
)

// AccountStats is the state of the accounts.
type AccountStats struct {
	Queued    uint64        // queue entries not applied
	Applied   uint64        // running number of the last entry applied by this process
	Records   uint64        // chunk records counted or discounted by this process
	LiveSlots uint64        // blocks something leads to, of what was applied
	CatchUp   hist.Snapshot // time questions waited for the queue
	Recounts  uint64        // times the accounts were made anew by this process
	Err       error         // why the queue is not applied, nil
}

type accountCounters struct {
	applied, records, recounts atomic.Uint64
	err                        atomic.Pointer[error]
}

// AccountStats takes a snapshot. It costs three reads of the database.
func (c *Catalog) AccountStats() AccountStats {
	if c.enter() != nil {
		return AccountStats{}
	}
	defer c.leave()
	a := &c.accounts
	s := AccountStats{Applied: a.counters.applied.Load(), Records: a.counters.records.Load(),
		CatchUp: a.catchUp.Snapshot(), Recounts: a.counters.recounts.Load()}
	if err := a.counters.err.Load(); err != nil {
		s.Err = *err
	}
	state, err := getAccountState(c.db)
	if s.LiveSlots = state.live; err == nil {
		s.Queued, err = queueLength(c.db)
	}
	if s.Err == nil {
		s.Err = err
	}
	return s
}

// queueLength takes it from the numbers of the queue's ends: entries leave it
// in order.
func queueLength(r pebble.Reader) (uint64, error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: []byte{keyQueue}, UpperBound: []byte{keyQueue + 1}})
	if err != nil {
		return 0, unreadable("the queue of the accounts", err)
	}
	defer it.Close()
	if !it.First() || len(it.Key()) != 9 {
		return 0, it.Error()
	}
	first := binary.BigEndian.Uint64(it.Key()[1:])
	if !it.Last() || len(it.Key()) != 9 {
		return 0, it.Error()
	}
	return binary.BigEndian.Uint64(it.Key()[1:]) - first + 1, nil
}
