package catalog

import (
	"sync"

	"github.com/strongroom-backup/strongroom/internal/hist"
)

// accounts count, for every slot of every pack, how often chunk records that
// images name lead to it. The counts are made from the queue of chunks born
// and died, some time after the batch that queued them; a question first has
// the rest of the queue applied, so its answer is exact.
//
// Only questions rely on the counts. What may be deleted is decided by the
// garbage collection's own mark, which audits them.
type accounts struct {
	c    *Catalog
	wake chan struct{} // capacity 1: there may be something in the queue
	stop chan struct{} // closed by Close: give up
	done chan struct{} // closed when the worker has ended

	// mu is held while a part of the queue is applied and while the accounts
	// are made anew. It is taken after commit.
	mu      sync.Mutex
	scratch accountScratch

	catchUp  hist.H // time questions waited for the queue
	counters accountCounters
	answers  answerCache
	stored   packSums
}
