package files

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/strongroom-backup/strongroom/sftp"
	"github.com/strongroom-backup/strongroom/volume"
)

// mayFail are the errors of a client whom others get in the way of.
var mayFail = []error{fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, fs.ErrInvalid, syscall.ENOTEMPTY, syscall.EISDIR, syscall.ENOTDIR,
	syscall.EDQUOT, volume.ErrClosed, volume.ErrNoSession, volume.ErrUnfinished, io.EOF}

// Clients do whatever they like while sessions are committed and aborted under
// them: nothing blocks, every error is one to expect, and what was committed is
// whole.
func TestStorm(t *testing.T) {
	r := seeded(t)
	w := newWorld(t)
	u := User{Name: "u", VM: "vm", Restore: true, CommitOnRename: true, Quota: 64 << 20}
	names := []string{"/a", "/d/b", "/d", "/vda.raw", "/vda.raw.part", "/d/e/c"}
	var clients sync.WaitGroup
	for i := range 4 {
		tree := w.user(u, fmt.Sprint("c", i))
		seed := r.Uint64()
		clients.Go(func() { w.client(t, tree, seed, names) })
	}
	var stop atomic.Bool
	var ender sync.WaitGroup
	committed := 0
	ender.Go(func() {
		r := seeded(t)
		next := uint64(0)
		for !stop.Load() {
			if w.s.stats.Writes.Load() < next { // so that there is something to end
				runtime.Gosched()
				continue
			}
			next = w.s.stats.Writes.Load() + r.Uint64N(30)
			sessions := slices.DeleteFunc(w.m.Sessions(), func(st volume.Status) bool { return st.State != volume.Open })
			if len(sessions) == 0 {
				continue
			}
			id := sessions[r.IntN(len(sessions))].Session
			if r.IntN(3) == 0 {
				if err := w.m.Abort(id); err != nil && !errors.Is(err, volume.ErrClosed) {
					t.Errorf("abort: %v", err)
				}
				continue
			}
			switch got, err := w.s.Commit(t.Context(), id, CommitOptions{atOnce: true}); {
			case err == nil:
				committed++
				for _, im := range got.Images {
					if p := w.image(got.Point, im.Disk); len(p)%512 != 0 || len(p) == 0 {
						t.Errorf("a disk of %d bytes", len(p))
					}
				}
			case !errors.Is(err, volume.ErrBadRequest) && !errors.Is(err, volume.ErrClosed) && !errors.Is(err, volume.ErrUnfinished):
				t.Errorf("commit: %v", err)
			}
		}
	})
	clients.Wait()
	stop.Store(true)
	ender.Wait()
	t.Logf("%d commits, %+v", committed, w.s.Stats())
	if n := w.s.Stats().Handles; n != 0 {
		t.Errorf("%d handles are still counted", n)
	}
}

// client makes random requests, as one connection does.
func (w *world) client(t *testing.T, tree sftp.Tree, seed uint64, names []string) {
	r := newRand(seed)
	var handles []sftp.File
	check := func(what string, err error) {
		if err != nil && !slices.ContainsFunc(mayFail, func(x error) bool { return errors.Is(err, x) }) {
			t.Errorf("%s: %v", what, err)
		}
	}
	pick := func() string { return names[r.IntN(len(names))] }
	data := bytes.Repeat([]byte{1}, 200_000)
	for range 3000 {
		switch k := r.IntN(16); {
		case k < 2 && len(handles) < 8:
			f, err := tree.Open(pick(), []sftp.OpenFlags{create, readOnly, {Write: true, Create: true}, {Write: true, Append: true}}[r.IntN(4)], 0o600)
			check("open", err)
			if err == nil {
				handles = append(handles, f)
			}
		case k < 9 && len(handles) > 0:
			i := r.IntN(len(handles))
			f := handles[i]
			kind := r.IntN(8)
			if _, err := f.Stat(); err != nil {
				kind = 4 // its session has ended
			}
			switch kind {
			case 0:
				check("read", second(f.ReadAt(make([]byte, 70_000), r.Int64N(2<<20))))
			case 1:
				check("stat", second(f.Stat()))
			case 2:
				size := r.Int64N(1 << 20)
				check("truncate", f.SetAttr(sftp.Changes{Size: &size}))
			case 3:
				check("sync", f.Sync())
			case 4:
				check("close", f.Close())
				handles = slices.Delete(handles, i, i+1)
			default:
				check("write", second(f.WriteAt(data[:512*(1+r.IntN(300))], 512*r.Int64N(4000))))
			}
		case k == 9:
			check("mkdir", tree.Mkdir(pick(), 0o700))
		case k == 10:
			check("remove", tree.Remove(pick()))
		case k == 11:
			check("rmdir", tree.Rmdir(pick()))
		case k == 12:
			err := tree.Rename(pick(), pick(), r.IntN(2) == 0)
			if !errors.Is(err, volume.ErrBadRequest) { // a commit that was refused
				check("rename", err)
			}
		case k == 13:
			check("link", tree.Link(pick(), pick()))
		case k == 14:
			check("list", second(tree.ReadDir([]string{"/", "/d", "/restore/vm"}[r.IntN(3)], "", 50)))
		default:
			check("statfs", second(tree.StatFS("/")))
			check("stat", second(tree.Stat(pick())))
		}
	}
	for _, f := range handles {
		check("close", f.Close())
	}
}
