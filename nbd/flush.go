package nbd

import "sync"

// flushGroup lets flushes of one export that overlap in time share the work.
// Device.Flush covers every connection of the export, so whoever asks while a
// flush runs is served by the one after it, whoever starts that.
type flushGroup struct {
	mu      sync.Mutex
	running bool
	next    *flushRound
}

// flushRound is a flush that has not started; those who asked wait for it.
type flushRound struct {
	start, done chan struct{}
	err         error // set before done is closed
}

// flush returns after a Device.Flush that began after the call.
func (g *flushGroup) flush(d Device) error {
	g.mu.Lock()
	if !g.running {
		g.running = true
		g.mu.Unlock()
		defer g.finish()
		return d.Flush()
	}
	if r := g.next; r != nil {
		g.mu.Unlock()
		<-r.done
		return r.err
	}
	r := &flushRound{start: make(chan struct{}), done: make(chan struct{})}
	g.next = r
	g.mu.Unlock()
	<-r.start
	defer g.finish()
	defer close(r.done)
	r.err = d.Flush()
	return r.err
}

// finish lets the next round start.
func (g *flushGroup) finish() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.next == nil {
		g.running = false
		return
	}
	close(g.next.start)
	g.next = nil
}
