package sftp

import (
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"syscall"

	sshfx "github.com/pkg/sftp/v2/encoding/ssh/filexfer"
	"github.com/pkg/sftp/v2/encoding/ssh/filexfer/openssh"
)

// opendir answers OPENDIR: path.
func (s *session) opendir(b *sshfx.Buffer) {
	name, ok := s.path(b)
	if !ok {
		return
	}
	err := s.handles.full()
	if err == nil {
		var a Attr
		if a, err = s.tree.Stat(name); err == nil && !a.Mode.IsDir() {
			err = fmt.Errorf("%w: %s is a file", syscall.ENOTDIR, name)
		}
	}
	if err != nil {
		s.status(err)
		return
	}
	s.give(&handle{name: name})
}

// readdir answers READDIR: handle. Names come in pages; the tree keeps nothing
// between them.
//
//	S  length (4) | 104 (1) | id (4) | count (4) | (name | long name | ATTRS)…
func (s *session) readdir(b *sshfx.Buffer) {
	h, ok := s.handleOf(b)
	if !ok {
		return
	}
	if h.file != nil {
		s.status(fmt.Errorf("%w: it is a file's", errHandle))
		return
	}
	if h.done {
		s.status(io.EOF)
		return
	}
	entries, err := s.page(h)
	if err != nil {
		s.status(err)
		return
	}
	s.reply(&sshfx.NamePacket{Entries: entries})
}

// page is the next names of an open folder; io.EOF when there are no more.
func (s *session) page(h *handle) ([]*sshfx.NameEntry, error) {
	now := s.c.srv.now()
	var entries []*sshfx.NameEntry
	add := func(name string, a Attr) {
		entries = append(entries, &sshfx.NameEntry{Filename: name, Longname: longName(name, a, now), Attrs: wireAttrs(a)})
	}
	if !h.begun {
		for _, dot := range []string{".", ".."} {
			a, err := s.tree.Stat(path.Join(h.name, dot))
			if err != nil {
				return nil, err
			}
			add(dot, a)
		}
	}
	list, err := s.tree.ReadDir(h.name, h.after, dirPage)
	if err != nil {
		return nil, err
	}
	for _, e := range list[:min(len(list), dirPage)] {
		add(e.Name, e.Attr)
		h.after = e.Name
	}
	h.begun, h.done = true, len(list) == 0
	if len(entries) == 0 {
		return nil, io.EOF
	}
	return entries, nil
}

// remove answers REMOVE: path.
func (s *session) remove(b *sshfx.Buffer) {
	if name, ok := s.changeable(b); ok {
		s.status(s.tree.Remove(name))
	}
}

// mkdir answers MKDIR: path | ATTRS.
func (s *session) mkdir(b *sshfx.Buffer) {
	name, ok := s.path(b)
	if !ok {
		return
	}
	a, err := parseAttrs(b)
	if err != nil {
		s.malformed()
		return
	}
	mode := fs.FileMode(a.Permissions.Perm())
	if mode == 0 {
		mode = 0o755
	}
	if name == "/" {
		s.status(fmt.Errorf("%w: /", fs.ErrExist))
		return
	}
	s.status(s.tree.Mkdir(name, mode))
}

// rmdir answers RMDIR: path.
func (s *session) rmdir(b *sshfx.Buffer) {
	if name, ok := s.changeable(b); ok {
		s.status(s.tree.Rmdir(name))
	}
}

// changeable reads a path that is not the root.
func (s *session) changeable(b *sshfx.Buffer) (name string, ok bool) {
	if name, ok = s.path(b); ok && name == "/" {
		s.status(errRoot)
		return "", false
	}
	return name, ok
}

// realpath answers REALPATH: path. It looks at nothing but the text.
func (s *session) realpath(b *sshfx.Buffer) {
	if name, ok := s.path(b); ok {
		s.reply(&sshfx.PathPseudoPacket{Path: name})
	}
}

// rename answers RENAME: old | new, which fails when new is there.
func (s *session) rename(b *sshfx.Buffer) { s.move(b, false) }

// posixRename answers posix-rename@openssh.com: old | new, which replaces it.
func (s *session) posixRename(b *sshfx.Buffer) { s.move(b, true) }

func (s *session) move(b *sshfx.Buffer, replace bool) {
	from, to, ok := s.paths(b)
	switch {
	case !ok:
	case from == "/" || to == "/":
		s.status(errRoot)
	default:
		s.status(s.tree.Rename(from, to, replace))
	}
}

// hardlink answers hardlink@openssh.com: old | new.
func (s *session) hardlink(b *sshfx.Buffer) {
	from, to, ok := s.paths(b)
	switch {
	case !ok:
	case from == "/" || to == "/":
		s.status(errRoot)
	default:
		s.status(s.tree.Link(from, to))
	}
}

// noLinks answers READLINK and SYMLINK. A link that clients follow on their own
// side would be a way out of the tree, so there are none.
func (s *session) noLinks(*sshfx.Buffer) { s.status(errNoSymlinks) }

// statvfs answers statvfs@openssh.com: path.
func (s *session) statvfs(b *sshfx.Buffer) {
	if name, ok := s.path(b); ok {
		s.space(s.tree.StatFS(name))
	}
}

// fstatvfs answers fstatvfs@openssh.com: handle. Of a file the folder is asked
// about, as the file may have another name by now.
func (s *session) fstatvfs(b *sshfx.Buffer) {
	h, ok := s.handleOf(b)
	switch {
	case !ok:
	case h.file == nil:
		s.space(s.tree.StatFS(h.name))
	default:
		s.space(s.tree.StatFS(path.Dir(h.name)))
	}
}

func (s *session) space(i FSInfo, err error) {
	if err != nil {
		s.status(err)
		return
	}
	block := max(i.BlockSize, 512)
	var flags uint64
	if i.ReadOnly {
		flags |= openssh.MountFlagsReadOnly
	}
	s.reply(&sshfx.ExtendedReplyPacket{Data: &openssh.StatVFSExtendedReplyPacket{
		BlockSize: block, FragmentSize: block,
		Blocks: i.Total / block, BlocksFree: i.Free / block, BlocksAvail: i.Avail / block,
		Files: i.Files, FilesFree: i.FilesFree, FilesAvail: i.FilesFree,
		MountFlags: flags | openssh.MountFlagsNoSUID, MaxNameLength: min(i.NameMax, math.MaxUint32),
	}})
}

// limits answers limits@openssh.com:
//
//	S  length (4) | 201 (1) | id (4) | packet (8) | read (8) | write (8) | handles (8)
func (s *session) limits(*sshfx.Buffer) {
	b := sshfx.NewMarshalBuffer(4 * 8)
	for _, v := range []uint64{packetMax, dataMax, dataMax, uint64(s.handles.limit)} {
		b.AppendUint64(v)
	}
	s.reply(&sshfx.ExtendedReplyPacket{Data: b})
}
