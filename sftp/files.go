package sftp

import (
	"fmt"
	"io/fs"

	sshfx "github.com/pkg/sftp/v2/encoding/ssh/filexfer"
)

// pflags of OPEN.
const (
	flagRead  = 0x01
	flagWrite = 0x02
	flagApp   = 0x04
	flagCreat = 0x08
	flagTrunc = 0x10
	flagExcl  = 0x20
)

// defaultMode is a new file's when the client gives none.
const defaultMode = fs.FileMode(0o644)

func openFlags(p uint32) (f OpenFlags, err error) {
	f = OpenFlags{
		Read:      p&flagRead != 0,
		Write:     p&(flagWrite|flagApp) != 0,
		Append:    p&flagApp != 0,
		Create:    p&flagCreat != 0,
		Truncate:  p&flagTrunc != 0,
		Exclusive: p&flagExcl != 0,
	}
	switch {
	case !f.Read && !f.Write:
		return f, fmt.Errorf("%w: an OPEN for neither reading nor writing", fs.ErrInvalid)
	case (f.Create || f.Truncate) && !f.Write:
		return f, fmt.Errorf("%w: an OPEN that would make or empty a file without writing", fs.ErrInvalid)
	}
	f.Exclusive = f.Exclusive && f.Create
	return f, nil
}

// open answers OPEN: path | pflags (4) | ATTRS. Of the attributes only the mode
// of a file that is made counts: sshfs sends permissions of 0 whenever it opens
// an existing one.
func (s *session) open(b *sshfx.Buffer) {
	name, ok := s.path(b)
	if !ok {
		return
	}
	pflags := b.ConsumeUint32()
	a, err := parseAttrs(b)
	if err != nil {
		s.malformed()
		return
	}
	flags, err := openFlags(pflags)
	if err == nil {
		err = s.handles.full()
	}
	if err != nil {
		s.status(err)
		return
	}
	mode := fs.FileMode(a.Permissions.Perm())
	if !a.HasPermissions() || mode == 0 {
		mode = defaultMode
	}
	file, err := s.tree.Open(name, flags, mode)
	if err != nil {
		s.status(err)
		return
	}
	s.give(&handle{file: file, name: name, flags: flags})
}

// give answers with a new handle.
func (s *session) give(h *handle) {
	id := s.handles.add(h)
	s.c.handles.Add(1)
	s.c.srv.counters.handles.Add(1)
	s.reply(&sshfx.HandlePacket{Handle: string(id[:])})
}

// closeHandle answers CLOSE: handle. The handle is gone whatever Close returns.
func (s *session) closeHandle(b *sshfx.Buffer) {
	id := b.ConsumeBytes()
	if b.Err != nil {
		s.malformed()
		return
	}
	h, ok := s.lookup(s.handles.remove(id))
	if !ok {
		return
	}
	s.c.handles.Add(-1)
	s.c.srv.counters.handles.Add(-1)
	var err error
	if h.file != nil {
		err = h.file.Close()
	}
	s.status(err)
}

// stat answers STAT and LSTAT: path.
func (s *session) stat(b *sshfx.Buffer) {
	if name, ok := s.path(b); ok {
		s.attrs(s.tree.Stat(name))
	}
}

func (s *session) attrs(a Attr, err error) {
	if err != nil {
		s.status(err)
		return
	}
	s.reply(&sshfx.AttrsPacket{Attrs: wireAttrs(a)})
}

// fstat answers FSTAT: handle.
func (s *session) fstat(b *sshfx.Buffer) {
	h, ok := s.handleOf(b)
	switch {
	case !ok:
	case h.file == nil:
		s.attrs(s.tree.Stat(h.name))
	default:
		s.attrs(h.file.Stat())
	}
}

// setstat answers SETSTAT and lsetstat: path | ATTRS.
func (s *session) setstat(b *sshfx.Buffer) {
	name, ok := s.path(b)
	if !ok {
		return
	}
	c, ok := s.changesOf(b)
	switch {
	case !ok:
	case c.isNone():
		_, err := s.tree.Stat(name) // a file that is not there is told of
		s.status(err)
	default:
		s.status(s.tree.SetAttr(name, c))
	}
}

// fsetstat answers FSETSTAT: handle | ATTRS.
func (s *session) fsetstat(b *sshfx.Buffer) {
	h, ok := s.handleOf(b)
	if !ok {
		return
	}
	c, ok := s.changesOf(b)
	switch {
	case !ok:
	case c.isNone():
		s.status(nil)
	case h.file == nil:
		s.status(s.tree.SetAttr(h.name, c))
	case c.Size != nil && !h.flags.Write:
		s.status(fmt.Errorf("%w: %s is open for reading only", fs.ErrPermission, h.name))
	default:
		s.status(h.file.SetAttr(c))
	}
}

// changesOf reads ATTRS. Without ok the request is answered.
func (s *session) changesOf(b *sshfx.Buffer) (c Changes, ok bool) {
	a, err := parseAttrs(b)
	if err != nil {
		s.malformed()
		return c, false
	}
	if c, err = changes(a); err != nil {
		s.status(err)
		return c, false
	}
	return c, true
}

// fsync answers fsync@openssh.com: handle.
func (s *session) fsync(b *sshfx.Buffer) {
	if h, ok := s.fileOf(b); ok {
		s.status(h.file.Sync())
	}
}
