package sftp_test

import (
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	sshfx "github.com/pkg/sftp/v2/encoding/ssh/filexfer"

	"github.com/strongroom-backup/strongroom/sftp"
	"github.com/strongroom-backup/strongroom/sftp/sftptest"
)

// witness notes every name that reaches a tree.
type witness struct {
	sftp.Tree
	mu    sync.Mutex
	names []string
}

func (w *witness) note(names ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.names = append(w.names, names...)
}

func (w *witness) Stat(name string) (sftp.Attr, error) {
	w.note(name)
	return w.Tree.Stat(name)
}

func (w *witness) Open(name string, f sftp.OpenFlags, m fs.FileMode) (sftp.File, error) {
	w.note(name)
	return w.Tree.Open(name, f, m)
}

func (w *witness) Rename(from, to string, replace bool) error {
	w.note(from, to)
	return w.Tree.Rename(from, to, replace)
}

func (w *witness) Link(from, to string) error {
	w.note(from, to)
	return w.Tree.Link(from, to)
}

func (w *witness) Remove(name string) error {
	w.note(name)
	return w.Tree.Remove(name)
}

// TestTraversalOverTheWire asks for thousands of names that want out, with
// every kind of request that has one.
func TestTraversalOverTheWire(t *testing.T) {
	mem := sftptest.New()
	tree := &witness{Tree: mem.Tree()}
	s := sftptest.Start(t, func(sftp.Conn) (sftp.Tree, error) { return tree, nil }, nil)
	w := newWire(t, s)
	rng := rand.New(rand.NewPCG(sftptest.Seed(t), 3))
	const n = 4000
	go func() {
		for i := range n {
			a, b := sftp.Traversal(rng), sftp.Traversal(rng)
			id := uint32(i)
			w.send([][]byte{
				w.packet(sshfx.PacketTypeLStat, id, a),
				w.packet(sshfx.PacketTypeOpen, id, a, uint32(0x0b), uint32(0)),
				w.packet(sshfx.PacketTypeRename, id, a, b),
				w.packet(sshfx.PacketTypeExtended, id, "posix-rename@openssh.com", a, b),
				w.packet(sshfx.PacketTypeExtended, id, "hardlink@openssh.com", a, b),
				w.packet(sshfx.PacketTypeRemove, id, a),
				w.packet(sshfx.PacketTypeRealPath, id, a),
				w.packet(sshfx.PacketTypeSymlink, id, a, b),
				w.packet(sshfx.PacketTypeReadLink, id, a),
			}[i%9])
		}
	}()
	for i := range n {
		r := w.receive()
		switch code, text := r.status(); {
		case i%9 >= 7 && code != sshfx.StatusOpUnsupported:
			t.Fatalf("a request for a symbolic link was answered with %v %s", code, text)
		case r.kind == sshfx.PacketTypeName:
			_ = r.body.ConsumeUint32()
			if name := r.body.ConsumeString(); !strings.HasPrefix(name, "/") || strings.Contains(name+"/", "/../") {
				t.Fatalf("REALPATH answered %q", name)
			}
		}
	}
	tree.mu.Lock()
	defer tree.mu.Unlock()
	if len(tree.names) < n/10 {
		t.Errorf("only %d names reached the tree", len(tree.names))
	}
	for _, name := range tree.names {
		if !fs.ValidPath(strings.TrimPrefix(name, "/")) && name != "/" {
			t.Errorf("%q reached the tree", name)
		}
	}
}
