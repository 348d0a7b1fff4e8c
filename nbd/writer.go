package nbd

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// writer sends replies. Whoever has a reply ready when nobody is writing
// becomes the writer and goes on until the queue is empty; what others queue
// meanwhile leaves in one gathered write.
type writer struct {
	c *conn
	// since is when the present write began, in Unix nanoseconds; 0 for none.
	since atomic.Int64

	mu     sync.Mutex // guards queue and active; a leaf
	queue  []*request
	active bool

	// The rest belongs to whoever is the writer.
	batch   []*request
	gather  gather
	vectors net.Buffers
	err     error
}

// send queues the reply of r; the slot is freed once it has left.
func (w *writer) send(r *request) {
	w.mu.Lock()
	w.queue = append(w.queue, r)
	if w.active {
		w.mu.Unlock()
		return
	}
	w.active = true
	for len(w.queue) > 0 {
		w.queue, w.batch = w.batch[:0], w.queue
		w.mu.Unlock()
		w.write(w.batch)
		w.mu.Lock()
	}
	w.active = false
	w.mu.Unlock()
}

// write sends the replies of a batch in as few system calls as is sensible.
func (w *writer) write(batch []*request) {
	sent := 0
	for i, r := range batch {
		w.gather.reply(&r.reply)
		if w.gather.full() || i == len(batch)-1 {
			w.flush()
			for _, r := range batch[sent : i+1] {
				r.free()
			}
			sent = i + 1
		}
	}
	clear(batch)
}

// flush writes what is gathered. After a failure there is nothing to write to
// any more, and requests still under way only have to be freed.
func (w *writer) flush() {
	vectors := w.gather.take()
	if w.err == nil {
		if w.c.ending.Load() {
			w.c.boundWrites()
		}
		w.since.Store(time.Now().UnixNano())
		if w.c.sock != nil {
			w.err = w.throughTLS(vectors)
		} else {
			w.vectors = vectors
			_, w.err = w.vectors.WriteTo(w.c.raw)
		}
		w.since.Store(0)
		if w.err != nil {
			w.c.kill(w.err)
		}
	}
	w.gather.reset()
}

func (w *writer) throughTLS(vectors net.Buffers) error {
	w.c.sock.hold()
	for _, v := range vectors {
		if _, err := w.c.rw.Write(v); err != nil {
			return err
		}
	}
	return w.c.sock.flush()
}

// gather collects replies as vectors: headers and small data are copied
// together, large data is referred to.
type gather struct {
	vectors net.Buffers
	scratch []byte
	from    int // start of the stretch of scratch that is in no vector yet
	size    int
}

func (g *gather) reply(p *reply) {
	at := 0
	for _, q := range p.parts {
		g.small(p.head[at:q.end])
		at = q.end
		if len(q.data) <= replyInline {
			g.small(q.data)
			continue
		}
		g.cut()
		g.vectors = append(g.vectors, q.data)
		g.size += len(q.data)
	}
}

// full says that it is time to write.
func (g *gather) full() bool {
	return g.size >= replyBatch || len(g.scratch) > replyScratch-2*replyInline
}

// small copies b. When the scratch is too small, which one reply of very many
// parts can bring about, a new one is begun: vectors point into the old one.
func (g *gather) small(b []byte) {
	if len(g.scratch)+len(b) > cap(g.scratch) {
		g.cut()
		g.scratch, g.from = make([]byte, 0, max(replyScratch, len(b))), 0
	}
	g.scratch = append(g.scratch, b...)
	g.size += len(b)
}

// cut makes the last stretch of scratch a vector.
func (g *gather) cut() {
	if len(g.scratch) > g.from {
		g.vectors = append(g.vectors, g.scratch[g.from:])
		g.from = len(g.scratch)
	}
}

func (g *gather) take() net.Buffers {
	g.cut()
	return g.vectors
}

func (g *gather) reset() {
	clear(g.vectors)
	g.vectors = g.vectors[:0]
	g.scratch, g.from, g.size = g.scratch[:0], 0, 0
}
