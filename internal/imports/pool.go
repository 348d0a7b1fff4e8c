package imports

import (
	"context"
	"sync"
)

// Device is a disk of the backup, open for writing. Its methods are called by
// many at once; Close by one, when no other is under way.
type Device interface {
	WriteAt(p []byte, off int64) (int, error)
	Zero(off, n int64) error
	Close() error
}

// Dial opens the disk of that number in Source.Disks. ctx is for the whole time
// that the Device is open.
type Dial func(ctx context.Context, disk int) (Device, error)

// pool keeps the disks that are being written open, and a few others that are not
// finished.
type pool struct {
	dial Dial

	mu    sync.Mutex
	open  map[int]*connection
	clock int64 // counts uses
}

// connection is an open disk, or one being opened.
type connection struct {
	disk   int
	opened chan struct{} // closed when device or err is there
	device Device
	err    error
	users  int   // under pool.mu
	used   int64 // under pool.mu: clock
}

func newPool(dial Dial) *pool { return &pool{dial: dial, open: map[int]*connection{}} }

// with calls do with the open disk.
func (p *pool) with(ctx context.Context, disk int, do func(Device) error) error {
	c, mine, idle := p.take(disk)
	defer p.leave(c)
	if idle != nil {
		idle.close() // first, so that there are never many
	}
	if mine {
		c.device, c.err = p.dial(ctx, disk)
		close(c.opened)
	}
	<-c.opened
	if c.err != nil {
		return c.err
	}
	return do(c.device)
}

// take finds the disk's connection; mine: the caller must open it. idle is one to
// close for it. There is none when all are in use, of which there are writesMax
// at most.
func (p *pool) take(disk int) (c *connection, mine bool, idle *connection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clock++
	if c = p.open[disk]; c == nil {
		if len(p.open) >= connectionsMax {
			idle = p.leastUsed()
		}
		c, mine = &connection{disk: disk, opened: make(chan struct{})}, true
		p.open[disk] = c
	}
	c.users++
	c.used = p.clock
	return c, mine, idle
}

// leastUsed forgets the connection that was not used for longest.
func (p *pool) leastUsed() (idle *connection) {
	for _, c := range p.open {
		if c.users == 0 && (idle == nil || c.used < idle.used) {
			idle = c
		}
	}
	if idle != nil {
		delete(p.open, idle.disk)
	}
	return idle
}

func (p *pool) leave(c *connection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.users--
}

// finish closes a disk of which all is written.
func (p *pool) finish(disk int) {
	p.mu.Lock()
	c := p.open[disk]
	delete(p.open, disk)
	p.mu.Unlock()
	if c != nil {
		c.close()
	}
}

// close closes all; nothing is under way.
func (p *pool) close() {
	for _, c := range p.open {
		c.close()
	}
}

// close says goodbye. Whatever was written has been answered, so an error has
// nothing to say.
func (c *connection) close() {
	if c.device != nil {
		c.device.Close()
	}
}
