package sftp

import (
	"fmt"

	sshfx "github.com/pkg/sftp/v2/encoding/ssh/filexfer"
)

// dispatch answers the request whose body, what follows the id, is given.
func (s *session) dispatch(t sshfx.PacketType, body []byte) {
	switch s.kind {
	case kindRead:
		s.read(body)
		return
	case kindWrite:
		s.write(body)
		return
	}
	b := sshfx.NewBuffer(body)
	if t == sshfx.PacketTypeExtended {
		name := b.ConsumeBytes()
		s.kind = kindOfExtension(name)
		if b.Err != nil {
			s.malformed()
			return
		}
		if s.kind == kindUnknown {
			s.status(fmt.Errorf("%w: the extension %.80q", errUnsupported, name))
			return
		}
	}
	if handle := handlers[s.kind]; handle != nil {
		handle(s, b)
		return
	}
	s.status(fmt.Errorf("%w: packets of type %d", errUnsupported, t))
}

// handlers answer requests that are not about bytes. Each calls reply, status or
// malformed once.
var handlers = [kinds]func(*session, *sshfx.Buffer){
	kindOpen:        (*session).open,
	kindClose:       (*session).closeHandle,
	kindLstat:       (*session).stat, // there are no symbolic links
	kindStat:        (*session).stat,
	kindFstat:       (*session).fstat,
	kindSetstat:     (*session).setstat,
	kindLsetstat:    (*session).setstat,
	kindFsetstat:    (*session).fsetstat,
	kindOpendir:     (*session).opendir,
	kindReaddir:     (*session).readdir,
	kindRemove:      (*session).remove,
	kindMkdir:       (*session).mkdir,
	kindRmdir:       (*session).rmdir,
	kindRealpath:    (*session).realpath,
	kindRename:      (*session).rename,
	kindPosixRename: (*session).posixRename,
	kindHardlink:    (*session).hardlink,
	kindReadlink:    (*session).noLinks,
	kindSymlink:     (*session).noLinks,
	kindStatvfs:     (*session).statvfs,
	kindFstatvfs:    (*session).fstatvfs,
	kindFsync:       (*session).fsync,
	kindLimits:      (*session).limits,
}

// path reads a path of the request. Without ok the request is answered.
func (s *session) path(b *sshfx.Buffer) (name string, ok bool) {
	raw := b.ConsumeBytes()
	if b.Err != nil {
		s.malformed()
		return "", false
	}
	name, err := resolve(string(raw))
	if err != nil {
		s.status(err)
		return "", false
	}
	s.name = name
	return name, true
}

// paths reads two.
func (s *session) paths(b *sshfx.Buffer) (first, second string, ok bool) {
	if first, ok = s.path(b); !ok {
		return "", "", false
	}
	second, ok = s.path(b)
	s.name = first
	return first, second, ok
}

// handle reads a handle of the request. Without ok the request is answered.
func (s *session) handleOf(b *sshfx.Buffer) (h *handle, ok bool) {
	id := b.ConsumeBytes()
	if b.Err != nil {
		s.malformed()
		return nil, false
	}
	return s.lookup(s.handles.get(id))
}

// fileOf reads the handle of a file.
func (s *session) fileOf(b *sshfx.Buffer) (h *handle, ok bool) {
	id := b.ConsumeBytes()
	if b.Err != nil {
		s.malformed()
		return nil, false
	}
	return s.lookup(s.handles.file(id))
}

func (s *session) lookup(h *handle, err error) (*handle, bool) {
	if err != nil {
		s.status(err)
		return nil, false
	}
	s.name = h.name
	return h, true
}
