package files

import (
	"fmt"
	"io/fs"
	"sync"
	"syscall"

	"github.com/strongroom-backup/strongroom/sftp"
)

// handle is a session's file as one connection has it open.
type handle struct {
	n     *node
	name  string
	conn  string
	flags sftp.OpenFlags
	fixed bool // the login only reads
	once  sync.Once
}

func (h *handle) ReadAt(p []byte, off int64) (int, error) {
	if !h.flags.Read {
		return 0, fmt.Errorf("%w: %s is open for writing only", fs.ErrPermission, h.name)
	}
	m, err := h.n.read(p, off)
	h.n.s.stats.read(m)
	return m, err
}

// WriteAt keeps a copy of p and returns; errors may be those of earlier writes.
func (h *handle) WriteAt(p []byte, off int64) (int, error) {
	if !h.flags.Write {
		return 0, fmt.Errorf("%w: %s is open for reading only", fs.ErrPermission, h.name)
	}
	m, err := h.n.write(p, off, h.flags.Append)
	h.n.s.stats.wrote(m)
	return m, err
}

func (h *handle) Stat() (sftp.Attr, error) {
	if err := h.n.home.over(); err != nil {
		return sftp.Attr{}, err
	}
	return h.n.attr(), nil
}

func (h *handle) SetAttr(c sftp.Changes) error {
	if h.fixed {
		return fmt.Errorf("%w: this login only reads", syscall.EROFS)
	}
	f := h.n.home
	f.mu.Lock()
	err := h.n.writableBy(h.name, h.conn)
	f.mu.Unlock()
	if err != nil {
		return err
	}
	return h.n.change(c)
}

func (h *handle) Sync() error { return h.n.sync() }

func (h *handle) Close() error { return h.end(true) }

// Abandon leaves a file that was being written unfinished.
func (h *handle) Abandon() error { return h.end(false) }

func (h *handle) end(closed bool) (err error) {
	h.once.Do(func() {
		err = h.n.home.release(h.n, h.flags.Write, closed)
		h.n.s.stats.Handles.Add(-1)
	})
	return err
}

// attr is what the file is once everything written is with the volume.
func (n *node) attr() sftp.Attr {
	n.op.Lock()
	_ = n.settle() // told at the next write, fsync or close
	n.op.Unlock()
	return n.glance()
}

// glance is what the file is as far as it was written.
func (n *node) glance() sftp.Attr {
	n.mu.Lock()
	defer n.mu.Unlock()
	return sftp.Attr{Mode: n.mode, Size: n.size, ModTime: n.modified, AccessTime: n.modified, Links: uint32(max(1, n.links.Load())), ID: n.id}
}

// change applies what SETSTAT asks for.
func (n *node) change(c sftp.Changes) error {
	if err := n.home.halted(); err != nil {
		return err
	}
	if c.Size != nil {
		if err := n.truncate(*c.Size); err != nil {
			return err
		}
	}
	if c.ModTime == nil && c.Mode == nil {
		return nil
	}
	return n.set(c.ModTime, c.Mode)
}
