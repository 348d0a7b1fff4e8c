package files

import (
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strongroom-backup/strongroom/volume"
)

// content is what a node needs of a volume.File.
type content interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	SetAttributes(modified time.Time, mode uint32) error
	SetState(volume.FileState) error
	Flush() error
	Close() error
}

// node is a file of a session, the same for all handles of all connections. It
// gathers writes in pieces and stores them several at a time; who asks for
// anything but a write sees them stored before.
type node struct {
	s    *Service
	home *folder
	f    content
	id   uint64
	acct *account

	links atomic.Int32 // names; changed under home.mu
	// By home.mu: how many have it open, how many of them for writing, and on
	// which connection.
	handles, writers int
	writer           string

	// op is held while content changes order: by a write until it is gathered, by
	// everything else until what was gathered before is stored.
	op    sync.Mutex
	open  []*piece // being gathered, by op
	timer *time.Timer
	armed bool
	w     writing // by op

	mu       sync.Mutex // what follows; a leaf
	landed   sync.Cond  // a piece has been stored
	flying   []*piece
	size     int64
	written  int64 // bytes since the file was last empty
	charged  int64
	modified time.Time
	mode     fs.FileMode
	err      error
}

func newNode(f *folder, c content, st *volume.FileStatus) *node {
	n := &node{s: f.s, home: f, f: c, id: st.ID, acct: f.acct, size: st.Size, written: st.WrittenBytes,
		modified: st.Modified, mode: fs.FileMode(st.Mode).Perm()}
	n.landed.L = &n.mu
	n.charged = min(n.size, n.written)
	n.acct.add(n.charged)
	return n
}

// writableBy tells whether a connection may change the file. The caller holds home.mu.
func (n *node) writableBy(name, conn string) error {
	if n.writers > 0 && n.writer != conn {
		return fmt.Errorf("%w: connection %s is writing %s, and a file is written by one at a time", fs.ErrPermission, n.writer, name)
	}
	return nil
}

// write stores p at off, or at the end. The error may be that of an earlier write.
func (n *node) write(p []byte, off int64, atEnd bool) (int, error) {
	n.op.Lock()
	defer n.op.Unlock()
	if err := n.home.halted(); err != nil {
		return 0, err
	}
	off, err := n.admit(len(p), off, atEnd)
	if err == nil {
		err = n.tell()
	}
	if err != nil {
		return 0, err
	}
	now := time.Now()
	for rest, at := p, off; len(rest) > 0; {
		window := at / pieceSize
		m := min(int64(len(rest)), (window+1)*pieceSize-at)
		pc := n.piece(window, now)
		if !pc.add(rest[:m], at) {
			n.launch(pc)
			continue // with a new one
		}
		if pc.touched = now; pc.full() {
			n.launch(pc)
		}
		rest, at = rest[m:], at+m
	}
	n.arm()
	return len(p), nil
}

// admit checks a write and accounts for it before anything of it is taken.
func (n *node) admit(length int, off int64, atEnd bool) (int64, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.failed(); err != nil {
		return 0, err
	}
	if atEnd {
		off = n.size
	}
	if off < 0 || off > maxFileSize-int64(length) {
		return 0, fmt.Errorf("%w: write of %d bytes at %d; files go up to 64 TiB", fs.ErrInvalid, length, off)
	}
	size, written := max(n.size, off+int64(length)), n.written+int64(length)
	if err := n.charge(min(size, written)); err != nil {
		return 0, err
	}
	n.size, n.written = size, written
	n.modified = n.s.now()
	return off, nil
}

// failed is why the file takes no more. The caller holds mu.
func (n *node) failed() error {
	if err := n.home.over(); err != nil {
		return err
	}
	return n.err
}

// failure is why the file takes no more.
func (n *node) failure() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.failed()
}

// charge makes the account pay for the file's present use. The caller holds mu.
func (n *node) charge(use int64) error {
	if err := n.acct.take(use - n.charged); err != nil {
		return err
	}
	n.charged = use
	return nil
}

// piece returns the piece that gathers a window.
func (n *node) piece(window int64, now time.Time) *piece {
	for _, pc := range n.open {
		if pc.window == window {
			return pc
		}
	}
	if len(n.open) == openPieces {
		n.launch(slices.MinFunc(n.open, func(a, b *piece) int { return a.touched.Compare(b.touched) }))
	}
	pc := n.s.pieces.try()
	if pc == nil {
		// What this file holds is on its way before it waits for others, so somebody's always lands.
		n.launchAll()
		pc = n.s.pieces.wait()
	}
	pc.window, pc.first = window, now
	n.open = append(n.open, pc)
	return pc
}

// launch sends a piece on its way, when not too many are.
func (n *node) launch(pc *piece) {
	n.open = slices.DeleteFunc(n.open, func(x *piece) bool { return x == pc })
	n.mu.Lock()
	for len(n.flying) >= flyingPieces {
		n.landed.Wait()
	}
	for _, x := range n.flying {
		if x.window == pc.window {
			pc.after = x // the last one counts: it waits for those before
		}
	}
	n.flying = append(n.flying, pc)
	n.mu.Unlock()
	go n.store(pc)
}

func (n *node) launchAll() {
	for len(n.open) > 0 {
		n.launch(n.open[0])
	}
}

// store hands a piece to the volume.
func (n *node) store(pc *piece) {
	if pc.after != nil {
		<-pc.after.done
		pc.after = nil
	}
	n.s.stores <- struct{}{}
	n.mu.Lock()
	err := n.failed()
	n.mu.Unlock()
	if err == nil {
		err = pc.runs(func(p []byte, off int64) error {
			_, err := n.f.WriteAt(p, off)
			return err
		})
	}
	<-n.s.stores
	n.s.pieces.give(pc)
	n.mu.Lock()
	if err != nil && n.err == nil {
		n.err = fmt.Errorf("an earlier write was lost: %w; empty or remove the file and write it again", err)
	}
	n.flying = slices.DeleteFunc(n.flying, func(x *piece) bool { return x == pc })
	n.landed.Broadcast()
	n.mu.Unlock()
	close(pc.done)
}

// settle returns once everything written so far is with the volume. The caller holds op.
func (n *node) settle() error {
	n.launchAll()
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(n.flying) > 0 {
		n.landed.Wait()
	}
	return n.failed()
}

// arm has what is gathered stored though nobody asks. The caller holds op.
func (n *node) arm() {
	if n.armed || len(n.open) == 0 {
		return
	}
	n.armed = true
	if n.timer == nil {
		n.timer = time.AfterFunc(idleFlush, n.idle)
	} else {
		n.timer.Reset(idleFlush)
	}
}

// idle stores the pieces that nobody added to for a while.
func (n *node) idle() {
	n.op.Lock()
	defer n.op.Unlock()
	n.armed = false
	now := time.Now()
	for _, pc := range slices.Clone(n.open) {
		if now.Sub(pc.touched) >= idleFlush || now.Sub(pc.first) >= agedFlush {
			n.launch(pc)
		}
	}
	n.arm()
}

// read fills p from off; at the end of the file it returns io.EOF.
func (n *node) read(p []byte, off int64) (int, error) {
	n.op.Lock()
	err := n.settle()
	n.mu.Lock()
	size := n.size
	n.mu.Unlock()
	n.op.Unlock()
	if err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, fmt.Errorf("%w: read at %d", fs.ErrInvalid, off)
	}
	if off >= size {
		return 0, io.EOF
	}
	short := int64(len(p)) > size-off
	if short {
		p = p[:size-off]
	}
	m, err := n.f.ReadAt(p, off)
	if err == nil && short {
		err = io.EOF
	}
	return m, err
}

// truncate cuts the file or lets it grow by zeros. Emptying it forgets that a
// write failed.
func (n *node) truncate(size int64) error {
	if size < 0 || size > maxFileSize {
		return fmt.Errorf("%w: length %d; files go up to 64 TiB", fs.ErrInvalid, size)
	}
	n.op.Lock()
	defer n.op.Unlock()
	if err := n.home.halted(); err != nil {
		return err
	}
	if err := n.settle(); err != nil && (size > 0 || n.home.over() != nil) {
		return err
	}
	n.w.synced = false
	if err := n.f.Truncate(size); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.size, n.modified = size, n.s.now()
	if size == 0 {
		n.written, n.err = 0, nil
		n.w.broken = ""
	}
	// Growing by zeros takes nothing yet; a quota already passed is refused at the next write.
	use := min(n.size, n.written)
	n.acct.add(use - n.charged)
	n.charged = use
	return nil
}

// set changes times and mode.
func (n *node) set(modified *time.Time, mode *fs.FileMode) error {
	n.op.Lock()
	defer n.op.Unlock()
	if err := n.home.halted(); err != nil {
		return err
	}
	if err := n.settle(); err != nil { // later writes would change the time again
		return err
	}
	n.mu.Lock()
	if modified != nil {
		n.modified = *modified
	}
	if mode != nil {
		n.mode = mode.Perm()
	}
	now, bits := n.modified, n.mode
	n.mu.Unlock()
	return n.f.SetAttributes(now, uint32(bits))
}

// finish returns once everything written is with the volume.
func (n *node) finish() error {
	n.op.Lock()
	defer n.op.Unlock()
	return n.settle()
}

// sync returns once everything written survives a power cut.
func (n *node) sync() error {
	n.op.Lock()
	err := n.settle()
	n.w.synced = err == nil
	n.op.Unlock()
	if err != nil {
		return err
	}
	return n.f.Flush()
}

// settled waits as finish does, and tells whether a write was lost. That the
// session has ended meanwhile is no news to who only closes.
func (n *node) settled() error {
	_ = n.finish()
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

// drop frees the file once nobody has it open and no name leads to it.
func (n *node) drop() error {
	n.op.Lock()
	defer n.op.Unlock()
	_ = n.settle() // nobody is left to be told
	if n.timer != nil {
		n.timer.Stop()
	}
	n.mu.Lock()
	n.acct.add(-n.charged)
	n.charged = 0
	n.mu.Unlock()
	return n.f.Close()
}
