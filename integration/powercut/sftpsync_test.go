package powercut

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/strongroom-backup/strongroom/files"
	"github.com/strongroom-backup/strongroom/internal/crashfs"
	"github.com/strongroom-backup/strongroom/sftp"
	"github.com/strongroom-backup/strongroom/volume"
)

// uploader writes files through the tree that SFTP serves, as a mount does.
type uploader struct {
	rng     *rand.Rand
	fs      *crashfs.FS
	session string
	tree    sftp.Tree
	// synced has what every file held when its last Sync returned. A file that
	// was written since is not in it.
	synced map[string][]byte
	cuts   int
}

// TestFileSyncThenPowerCut cuts the power behind every fsync that was answered,
// and behind what changes names: in all kinds of cuts what was synced is there,
// under its name of that time, whatever other files lost.
func TestFileSyncThenPowerCut(t *testing.T) {
	seed := seedOf(t)
	for round := range soak(t) {
		u, stop := newUploader(t, rand.New(rand.NewPCG(seed, uint64(round))))
		for i := range steps(40) {
			if err := u.step(i); err != nil {
				t.Fatalf("step %d: %v", i, err)
			}
			if err := u.cut(); err != nil {
				t.Fatalf("step %d: %v", i, err)
			}
		}
		t.Logf("%d states, %d files", u.cuts, len(u.synced))
		stop()
	}
}

func newUploader(t *testing.T, rng *rand.Rand) (*uploader, func()) {
	u := &uploader{rng: rng, fs: crashfs.New(), synced: map[string][]byte{}}
	e, err := start(u.fs, bootID(1), mustLive)
	if err != nil {
		t.Fatal(err)
	}
	st, err := e.Start(volume.StartRequest{VM: "alpha", Files: true})
	if err != nil {
		t.Fatal(err)
	}
	svc := e.trees()
	u.session = st.Session
	if u.tree, err = svc.JobTree(st.Session, "c1"); err != nil {
		t.Fatal(err)
	}
	return u, func() {
		if err := u.tree.Close(); err != nil {
			t.Error(err)
		}
		svc.Close()
		if err := e.stop(); err != nil {
			t.Error(err)
		}
	}
}

func (e *engine) trees() *files.Service {
	return files.New(files.Options{Volumes: e.Manager, Catalog: e.cat, Blocks: e.store, Clock: now})
}

// step writes a file and syncs it, or changes names; every third time another
// file is written without a sync, which may be lost.
func (u *uploader) step(i int) error {
	if i%3 == 1 {
		name := fmt.Sprintf("/unsynced%d", u.rng.IntN(3))
		if _, err := u.write(name, nil, false); err != nil {
			return err
		}
	}
	names := slices.Sorted(maps.Keys(u.synced))
	if len(names) < 3 || u.rng.IntN(3) > 0 {
		name := fmt.Sprintf("/file%d", u.rng.IntN(6))
		data, err := u.write(name, u.synced[name], true)
		u.synced[name] = data
		return err
	}
	from := names[u.rng.IntN(len(names))]
	to := fmt.Sprintf("/named%d", u.rng.IntN(6))
	switch {
	case from == to:
		return nil
	case u.rng.IntN(3) == 0:
		delete(u.synced, from)
		return u.tree.Remove(from)
	}
	u.synced[to] = u.synced[from]
	delete(u.synced, from)
	return u.tree.Rename(from, to, true)
}

// write makes random changes to a file that has the content have and returns
// what it has now.
func (u *uploader) write(name string, have []byte, sync bool) ([]byte, error) {
	f, err := u.tree.Open(name, sftp.OpenFlags{Read: true, Write: true, Create: true}, 0o600)
	if err != nil {
		return nil, err
	}
	data := slices.Clone(have)
	for range 1 + u.rng.IntN(12) {
		if data, err = u.change(f, data); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	if sync {
		err = f.Sync()
	}
	return data, errors.Join(err, f.Close())
}

func (u *uploader) change(f sftp.File, data []byte) ([]byte, error) {
	const most = 600 << 10
	if u.rng.IntN(8) == 0 {
		size := u.rng.Int64N(most)
		if size > int64(len(data)) {
			data = append(data, make([]byte, size-int64(len(data)))...)
		}
		return data[:size], f.SetAttr(sftp.Changes{Size: &size})
	}
	off, p := u.rng.IntN(most-100<<10), make([]byte, 1+u.rng.IntN(100<<10))
	if u.rng.IntN(4) > 0 {
		for i := 0; i < len(p); i += 1 + u.rng.IntN(200) {
			p[i] = byte(u.rng.Uint32())
		}
	}
	if grow := off + len(p) - len(data); grow > 0 {
		data = append(data, make([]byte, grow)...)
	}
	copy(data[off:], p)
	_, err := f.WriteAt(p, int64(off))
	return data, err
}

// cut loses power now, in every way, and looks at what a new engine finds.
func (u *uploader) cut() error {
	profiles := crashfs.Profiles()
	for _, p := range profiles {
		if u.cuts%2 == 1 {
			p.Paranoid = ours
		}
		after := u.fs.Crash(u.rng, p)
		u.cuts++
		if err := u.inspect(after); err != nil {
			return fmt.Errorf("after a power cut (%s): %w", p.Name, err)
		}
	}
	return nil
}

func (u *uploader) inspect(after *crashfs.FS) error {
	e, err := start(after, bootID(2), mustLive)
	if err != nil {
		return fmt.Errorf("the engine does not open: %w", err)
	}
	svc := e.trees()
	tree, err := svc.JobTree(u.session, "c2")
	if err != nil {
		return errors.Join(fmt.Errorf("the session is not there: %w", err), e.stop())
	}
	for name, want := range u.synced {
		if e := same(tree, name, want); e != nil {
			err = errors.Join(err, e)
		}
	}
	err = errors.Join(err, u.nothingElse(tree), tree.Close())
	svc.Close()
	return errors.Join(err, e.stop())
}

// same compares a file with what was synced.
func same(tree sftp.Tree, name string, want []byte) error {
	f, err := tree.Open(name, sftp.OpenFlags{Read: true}, 0)
	if err != nil {
		return fmt.Errorf("a file that was synced: %w", err)
	}
	defer f.Close()
	got := make([]byte, len(want)+1)
	n, err := f.ReadAt(got, 0)
	if err != nil && err != io.EOF {
		return fmt.Errorf("%s: %w", name, err)
	}
	if !bytes.Equal(got[:n], want) {
		return fmt.Errorf("%s has %d bytes, not the %d that were synced", name, n, len(want))
	}
	return nil
}

// nothingElse checks that what was removed or renamed did not come back.
func (u *uploader) nothingElse(tree sftp.Tree) error {
	list, err := tree.ReadDir("/", "", 100)
	for _, e := range list {
		name := "/" + e.Name
		_, known := u.synced[name]
		if !known && e.Attr.Mode&fs.ModeDir == 0 && !slices.Contains([]string{"/unsynced0", "/unsynced1", "/unsynced2"}, name) {
			err = errors.Join(err, fmt.Errorf("%s is there again", name))
		}
	}
	return err
}
