package files

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/strongroom-backup/strongroom/sftp"
	"github.com/strongroom-backup/strongroom/tier"
	"github.com/strongroom-backup/strongroom/volume"
)

var write = sftp.OpenFlags{Write: true}

// One connection writes a file; others read it, and can neither change it nor
// take it away.
func TestOneWriter(t *testing.T) {
	w := newWorld(t)
	session, mine := w.job("vm")
	theirs := w.tree(session, "c2")
	f := w.open(mine, "/x", create)
	g := w.open(mine, "/x", write) // QEMU opens an image several times
	f.WriteAt([]byte("hello"), 0)
	size := int64(0)
	for what, err := range map[string]error{
		"open":     second(theirs.Open("/x", write, 0)),
		"truncate": theirs.SetAttr("/x", sftp.Changes{Size: &size}),
		"remove":   theirs.Remove("/x"),
		"rename":   theirs.Rename("/x", "/y", true),
		"over":     func() error { w.send(theirs, "/z", nil); return theirs.Rename("/z", "/x", true) }(),
	} {
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "c1") {
			t.Errorf("%s by another connection: %v", what, err)
		}
	}
	if got := w.get(theirs, "/x"); string(got) != "hello" {
		t.Errorf("%q", got)
	}
	f.Close()
	if _, err := theirs.Open("/x", write, 0); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("while a second handle is open: %v", err)
	}
	g.Close()
	w.open(theirs, "/x", write).Close()
}

// The end of a session is the end of its handles.
func TestRelease(t *testing.T) {
	w := newWorld(t)
	session, tree := w.job("vm")
	f := w.open(tree, "/x", create)
	f.WriteAt(make([]byte, 100), 0)
	gone := w.open(tree, "/y", create)
	gone.WriteAt(make([]byte, 3<<20), 0)
	if err := tree.Remove("/y"); err != nil {
		t.Fatal(err)
	}
	if err := w.m.Abort(session); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"write": second(f.WriteAt([]byte("x"), 0)), "read": second(f.ReadAt(make([]byte, 1), 0)), "stat": second(f.Stat()),
		"sync": f.Sync(), "attr": f.SetAttr(sftp.Changes{}), "open": second(tree.Open("/x", readOnly, 0)), "list": second(tree.ReadDir("/", "", 9)),
		"mkdir": tree.Mkdir("/d", 0), "unlinked": second(gone.WriteAt([]byte("x"), 0)),
	} {
		if !errors.Is(err, volume.ErrClosed) || !strings.Contains(fmt.Sprint(err), "aborted") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := f.Close(); err == nil {
		t.Error("close of a lost write tells nothing")
	}
	session, tree = w.job("vm")
	f = w.open(tree, "/x", create)
	f.WriteAt(make([]byte, 100), 0)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f = w.open(tree, "/x", readOnly)
	w.commit(session)
	if err := f.Close(); err != nil {
		t.Errorf("close of what was committed: %v", err)
	}
	gone.Close()
	if _, err := w.s.JobTree(session, "c2"); err == nil {
		t.Error("a tree of an aborted session")
	}
}

// The files of standing users: sessions begin with the first file and end with a
// commit, and survive a restart.
func TestUserSessions(t *testing.T) {
	w := newWorld(t)
	u := User{Name: "bob", VMs: []string{"db*", "web1"}, Restore: true}
	tree := w.user(u, "c1")
	open := func() (ids []string) {
		for _, st := range w.m.Sessions() {
			if st.State == volume.Open {
				ids = append(ids, st.Session)
			}
		}
		return ids
	}
	if err := tree.Mkdir("/web1/d", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Stat("/db5"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a VM nobody has heard of: %v", err)
	}
	if err := tree.Mkdir("/db5", 0); err != nil {
		t.Fatal(err)
	}
	if got := w.names(tree, "/"); !slices.Equal(got, []string{"db5", "restore", "web1"}) {
		t.Errorf("%q", got)
	}
	if n := len(open()); n != 0 {
		t.Fatalf("%d sessions before the first file", n)
	}
	w.send(tree, "/web1/d/notes", []byte("1"))
	w.send(w.user(u, "c2"), "/web1/vda.raw", make([]byte, 4096))
	if n := len(open()); n != 1 {
		t.Fatalf("%d sessions", n)
	}
	for _, name := range []string{"/restore/x", "/web1", "/mail/x", "/x"} {
		if _, err := tree.Open(name, create, 0o600); err == nil {
			t.Errorf("%s was made", name)
		}
	}
	if err := tree.Rename("/web1/vda.raw", "/db5/vda.raw", true); !errors.Is(err, syscall.EXDEV) {
		t.Errorf("from VM to VM: %v", err)
	}
	w.restart()
	tree = w.user(u, "c3")
	if got := w.names(tree, "/web1"); !slices.Equal(got, []string{"d", "vda.raw"}) {
		t.Fatalf("after a restart: %q", got)
	}
	got := w.commit(open()[0])
	if len(got.Files) != 2 || len(got.Images) != 1 {
		t.Errorf("%+v", got)
	}
	if got := w.names(tree, "/web1"); len(got) != 0 {
		t.Errorf("after the commit: %q", got)
	}
	w.send(tree, "/web1/more", nil)
	if n := len(open()); n != 1 {
		t.Errorf("%d sessions", n)
	}
	if other := w.user(User{Name: "eve", VM: "web1"}, "c4"); len(w.names(other, "/")) != 0 {
		t.Error("another user sees the files")
	}
	watcher := w.user(User{Name: "bob", VM: "web1", ReadOnly: true}, "c5")
	if got := w.names(watcher, "/"); !slices.Equal(got, []string{"more"}) {
		t.Errorf("%q", got)
	}
	f := w.open(watcher, "/more", readOnly)
	size := int64(5)
	for what, err := range map[string]error{"create": second(watcher.Open("/y", create, 0)), "remove": watcher.Remove("/more"),
		"attr": f.SetAttr(sftp.Changes{Size: &size})} {
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s by one who only reads: %v", what, err)
		}
	}
	f.Close()
}

// A rename that says a disk is complete commits, or is undone.
func TestCommitOnRename(t *testing.T) {
	w := newWorld(t)
	tree := w.user(User{Name: "u", VM: "vm", Restore: true, CommitOnRename: true}, "c1")
	data := bytes.Repeat([]byte("disk"), 50_000/4*512)
	w.send(tree, "/vda.raw.part", data)
	w.send(tree, "/other.part", nil)
	err := tree.Rename("/vda.raw.part", "/vda.raw", true)
	if err == nil || !strings.Contains(err.Error(), "other.part") {
		t.Fatalf("with another file incomplete: %v", err)
	}
	if got := w.names(tree, "/"); !slices.Equal(got, []string{"other.part", "restore", "vda.raw.part"}) {
		t.Fatalf("after a commit that failed: %q", got)
	}
	if err := tree.Rename("/other.part", "/other", true); err != nil { // no disk
		t.Fatal(err)
	}
	if err := tree.Rename("/vda.raw.part", "/vda.raw", true); err != nil {
		t.Fatal(err)
	}
	if got := w.names(tree, "/"); !slices.Equal(got, []string{"restore"}) {
		t.Fatalf("after the commit: %q", got)
	}
	if got := w.get(tree, "/restore/vm/latest/vda.raw"); !bytes.Equal(got, data) {
		t.Error("the disk differs")
	}
}

// A quota counts what is written and not committed, holes not.
func TestQuota(t *testing.T) {
	w := newWorld(t)
	tree := w.user(User{Name: "u", VM: "vm", Quota: 1 << 20}, "c1")
	f := w.open(tree, "/x", create)
	size := int64(1) << 40
	if err := f.SetAttr(sftp.Changes{Size: &size}); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 512<<10)
	for i := range 2 {
		if _, err := f.WriteAt(p, int64(i)<<30); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.WriteAt([]byte("x"), 5); !errors.Is(err, syscall.EDQUOT) {
		t.Errorf("beyond the quota: %v", err)
	}
	if info, err := tree.StatFS("/"); err != nil || info.Avail != 0 || info.Total != 1<<20 {
		t.Errorf("%+v, %v", info, err)
	}
	if err := f.Sync(); err != nil { // nothing was lost
		t.Error(err)
	}
	size = 0
	if err := f.SetAttr(sftp.Changes{Size: &size}); err != nil {
		t.Fatal(err)
	}
	for range 4 { // rewriting takes nothing
		if _, err := f.WriteAt(p, 0); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	if info, _ := tree.StatFS("/x"); info.Avail != 512<<10 {
		t.Errorf("%+v", info)
	}
	if err := tree.Remove("/x"); err != nil {
		t.Fatal(err)
	}
	if info, _ := tree.StatFS("/"); info.Avail != 1<<20 {
		t.Errorf("%+v", info)
	}
}

// snapshot is all that a client sees of a folder.
func (w *world) snapshot(t sftp.Tree, dir string) map[string]string {
	m := map[string]string{}
	for _, name := range w.names(t, dir) {
		full := strings.TrimSuffix(dir, "/") + "/" + name
		a, err := t.Stat(full)
		if err != nil {
			w.t.Fatal(err)
		}
		switch {
		case full == "/restore":
		case a.Mode.IsDir():
			for k, v := range w.snapshot(t, full) {
				m[k] = v
			}
		default:
			m[full] = string(w.get(t, full)) + a.ModTime.String()
		}
	}
	return m
}

// Folders that make no point, each refused with the reason and left as it was.
func TestRefusedCommits(t *testing.T) {
	r := seeded(t)
	dir := t.TempDir()
	content := disk(r, 2<<20)
	raw := local(t, dir, "disk.raw", content)
	good := filepath.Join(dir, "good.qcow2")
	qemu(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, good)
	qcow := slurp(t, good)
	over := slurp(t, overlay(t, dir, "over.qcow2", good, "", 0, "write -P 1 0 64k"))
	w := newWorld(t)
	first := w.backup("vm", map[string][]byte{"/vda.qcow2": qcow})
	w.backup("vm", map[string][]byte{"/vda.qcow2": append(qcow[:len(qcow):len(qcow)], 0)})
	onFirst := slurp(t, overlay(t, dir, "on-first.qcow2", local(t, dir, "00-"+first.Point+".qcow2", qcow), "", 0, "write -P 1 0 64k"))

	squeezed := filepath.Join(dir, "squeezed.qcow2")
	qemu(t, "qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", local(t, dir, "half.raw", bytes.Repeat(append(noise(r, 32<<10), make([]byte, 32<<10)...), 32)), squeezed)
	rotten := slurp(t, squeezed)
	for i := len(rotten) * 3 / 4; i < len(rotten); i++ { // data, which is looked at last
		rotten[i] = 0xff
	}
	patch := func(off int, value uint64, bytes int) []byte {
		p := slices.Clone(qcow)
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], value)
		copy(p[off:], b[8-bytes:])
		return p
	}
	l1 := int(binary.BigEndian.Uint64(qcow[40:]))
	l2 := int(binary.BigEndian.Uint64(qcow[l1:]) & 0x00fffffffffffe00)
	one := func(name string, data []byte) map[string][]byte {
		return map[string][]byte{name: data, "/notes": []byte("n")}
	}
	manifest := func(text string, more ...string) map[string][]byte {
		m := map[string][]byte{"/manifest.json": []byte(text), "/a.qcow2": qcow}
		for _, name := range more {
			m[name] = qcow
		}
		return m
	}
	for _, x := range []struct {
		name  string
		files map[string][]byte
		mode  string
		want  string
	}{
		{"nothing", nil, "", "no file"},
		{"part", map[string][]byte{"/d.txt.part": nil, "/vda.qcow2": qcow}, "", "d.txt.part"},
		{"twice", map[string][]byte{"/vda.qcow2": qcow, "/vda.raw": content}, "", "both of disk vda"},
		{"empty raw", one("/vda.raw", nil), "", "vda.raw"},
		{"odd raw", one("/vda.raw", content[:1000]), "", "512"},
		{"raw incremental", one("/vda.raw", content), "incremental", "full"},
		{"img is qcow2", one("/vda.img", qcow), "", "qcow2"},
		{"empty qcow2", one("/vda.qcow2", nil), "", "vda.qcow2"},
		{"no qcow2", one("/vda.qcow2", content), "", "vda.qcow2"},
		{"short", one("/vda.qcow2", qcow[:100]), "", "vda.qcow2"},
		{"cut", one("/vda.qcow2", qcow[:len(qcow)/2&^65535]), "", "vda.qcow2"},
		{"version", one("/vda.qcow2", patch(4, 9, 4)), "", "vda.qcow2"},
		{"encrypted", one("/vda.qcow2", patch(32, 1, 4)), "", "vda.qcow2"},
		{"data file", one("/vda.qcow2", patch(72, 4, 8)), "", "vda.qcow2"},
		{"corrupt bit", one("/vda.qcow2", patch(72, 2, 8)), "", "vda.qcow2"},
		{"huge L1", one("/vda.qcow2", patch(36, 1<<31-1, 4)), "", "vda.qcow2"},
		{"huge disk", one("/vda.qcow2", patch(24, 1<<62, 8)), "", "vda.qcow2"},
		{"L1 far away", one("/vda.qcow2", patch(40, 1<<50, 8)), "", "vda.qcow2"},
		{"L2 is L1", one("/vda.qcow2", patch(l1, uint64(l1), 8)), "", "vda.qcow2"},
		{"cluster is header", one("/vda.qcow2", patch(l2, 1<<63, 8)), "", "vda.qcow2"},
		{"cluster far away", one("/vda.qcow2", patch(l2, 1<<63|1<<45, 8)), "", "vda.qcow2"},
		{"rotten cluster", one("/vda.qcow2", rotten), "", "vda.qcow2"},
		{"rotten second", map[string][]byte{"/vda.qcow2": qcow, "/vdb.qcow2": rotten}, "", "vdb.qcow2"},
		{"bomb", one("/vda.qcow2", patch(l2, 1<<62|65536, 8)), "", "vda.qcow2"},
		{"stranger below", one("/vda.qcow2", over), "", "backing file"},
		{"full with backing", one("/vda.qcow2", over), "full", "backing file"},
		{"old point below", one("/vda.qcow2", onFirst), "incremental", first.Point},
		{"old point below, auto", one("/vda.qcow2", onFirst), "", "backing file"},
		{"no parent", one("/vdz.qcow2", qcow), "incremental", "no point"},
		{"second is bad", map[string][]byte{"/vda.qcow2": qcow, "/vdb.qcow2": content}, "", "vdb"},
		{"manifest: no JSON", manifest("{"), "", "manifest.json"},
		{"manifest: unknown field", manifest(`{"disks":[{"file":"a.qcow2","disk":"vda","format":"qcow2","size":1}]}`), "", "size"},
		{"manifest: two values", manifest(`{"disks":[]}{}`), "", "behind the end"},
		{"manifest: no file", manifest(`{"disks":[{"file":"b.qcow2","disk":"vda","format":"qcow2"}]}`), "", "b.qcow2"},
		{"manifest: disk", manifest(`{"disks":[{"file":"a.qcow2","disk":"../x","format":"qcow2"}]}`), "", "name"},
		{"manifest: format", manifest(`{"disks":[{"file":"a.qcow2","disk":"vda","format":"vmdk"}]}`), "", "format"},
		{"manifest: mode", manifest(`{"disks":[{"file":"a.qcow2","disk":"vda","format":"qcow2","mode":"x"}]}`), "", "mode"},
		{"manifest: twice", manifest(`{"disks":[{"file":"a.qcow2","disk":"vda","format":"qcow2"},{"file":"d/b.qcow2","disk":"vda","format":"qcow2"}]}`, "/d/b.qcow2"), "", "both"},
		{"manifest: long", manifest(strings.Repeat(" ", maxManifest+1)), "", "manifest.json"},
	} {
		t.Run(x.name, func(t *testing.T) {
			w.within(t)
			session, tree := w.job("vm", func(q *volume.StartRequest) { q.Mode = x.mode })
			for name, data := range x.files {
				if d := filepath.Dir(name); d != "/" {
					tree.Mkdir(d, 0o700)
				}
				w.send(tree, name, data)
			}
			before := w.snapshot(tree, "/")
			was, _ := w.m.Status(session)
			_, err := w.s.Commit(t.Context(), session, CommitOptions{})
			if err == nil || !strings.Contains(err.Error(), x.want) {
				t.Fatalf("%v; want something of %q", err, x.want)
			}
			if len(x.files) > 0 && !errors.Is(err, volume.ErrBadRequest) {
				t.Errorf("not a bad request: %v", err)
			}
			t.Log(err)
			if after := w.snapshot(tree, "/"); !reflect.DeepEqual(before, after) {
				t.Error("the folder has changed")
			}
			if is, _ := w.m.Status(session); len(is.Disks) != 0 || is.State != was.State {
				t.Errorf("the session has changed: %+v", is)
			}
			// It goes on.
			for name := range x.files {
				if err := tree.Remove(name); err != nil {
					t.Fatal(err)
				}
			}
			w.send(tree, "/ok", []byte("ok"))
			w.commit(session)
		})
	}
}

// What manifest.json says is what counts; sshfs's leftovers do not.
func TestManifest(t *testing.T) {
	r := seeded(t)
	w := newWorld(t)
	content := disk(r, 1<<20)
	session, tree := w.job("vm")
	tree.Mkdir("/images", 0o700)
	w.send(tree, "/images/any name", content)
	w.send(tree, "/vdb.raw", content) // not listed
	w.send(tree, "/.fuse_hidden0001", content)
	w.send(tree, "/manifest.json", []byte(`{"disks":[{"file":"images/any name","disk":"root","format":"raw"}]}`))
	var progress int64
	got, err := w.s.Commit(t.Context(), session, CommitOptions{Progress: func(done, total int64) { progress = done * 100 / total }})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Images) != 1 || got.Images[0].Disk != "root" || progress != 100 {
		t.Errorf("%+v, %d%%", got.Images, progress)
	}
	var files []string
	for _, f := range got.Files {
		files = append(files, f.Name+"="+f.Disk)
	}
	if want := []string{"images/any name=root", "manifest.json=", "vdb.raw="}; !slices.Equal(files, want) {
		t.Errorf("%q", files)
	}
	if again, err := w.s.Commit(t.Context(), session, CommitOptions{}); err != nil || again.Point != got.Point {
		t.Errorf("a second commit: %+v, %v", again, err)
	}
}

// The line of images goes on over whatever names the newest point.
func TestAutoModes(t *testing.T) {
	r := seeded(t)
	dir := t.TempDir()
	w := newWorld(t)
	raw := local(t, dir, "disk.raw", disk(r, 2<<20))
	full := filepath.Join(dir, "vda.qcow2")
	qemu(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, full)
	last := w.backup("vm", map[string][]byte{"/vda.qcow2": slurp(t, full)})
	for i, below := range []func() string{
		func() string { return "vda.qcow2" },
		func() string { return last.Point + ".qcow2" },
		func() string { return fmt.Sprintf("%02d-%s.qcow2", 7, last.Point) },
		func() string { return filepath.Join(last.Point, "vda") },
		func() string { return "nbd+unix:///vm%2fvda@" + last.Point + "?socket=/x" },
	} {
		path := filepath.Join(dir, fmt.Sprint("over", i))
		qemu(t, "qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", below(), "-F", "qcow2", path, "2M")
		qemu(t, "qemu-io", "-f", "qcow2", "-c", fmt.Sprintf("write -P %d %dk 64k", i+1, i*128), "json:{\"driver\":\"qcow2\",\"backing\":null,\"file\":{\"driver\":\"file\",\"filename\":\""+path+"\"}}")
		got := w.backup("vm", map[string][]byte{"/vda.qcow2": slurp(t, path)})
		if im := got.Images[0]; im.Mode != "incremental" || im.Parent != last.Point {
			t.Errorf("over %s: %+v", below(), im)
		}
		last = got
	}
}

// A commit that is cancelled changes nothing.
func TestCommitCancelled(t *testing.T) {
	r := seeded(t)
	dir := t.TempDir()
	w := newWorld(t)
	raw := local(t, dir, "disk.raw", disk(r, 8<<20))
	packed := filepath.Join(dir, "packed.qcow2")
	qemu(t, "qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", raw, packed)
	session, tree := w.job("vm")
	w.send(tree, "/vda.qcow2", slurp(t, packed))
	ctx, cancel := context.WithCancel(t.Context())
	_, err := w.s.Commit(ctx, session, CommitOptions{Progress: func(done, total int64) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if st, _ := w.m.Status(session); len(st.Disks) != 0 {
		t.Errorf("%+v", st.Disks)
	}
	w.commit(session)
}

// Stopping stores what was gathered, though nobody closed the file.
func TestCloseStores(t *testing.T) {
	w := newWorld(t)
	session, tree := w.job("vm")
	f := w.open(tree, "/x", create)
	if _, err := f.WriteAt([]byte("gathered"), 3<<20); err != nil {
		t.Fatal(err)
	}
	w.s.Close()
	if _, err := f.WriteAt([]byte("late"), 0); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a write after the stop: %v", err)
	}
	w.restart()
	if got := w.get(w.tree(session, "c2"), "/x"); len(got) != 3<<20+8 || string(got[3<<20:]) != "gathered" {
		t.Errorf("%d bytes", len(got))
	}
}

// Folders are renamed with what is in them, unless somebody else is writing it.
func TestRenameFolder(t *testing.T) {
	w := newWorld(t)
	session, tree := w.job("vm")
	for _, d := range []string{"/a", "/a/b", "/a/e", "/x"} {
		if err := tree.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.send(tree, "/a/1", []byte("1"))
	w.send(tree, "/a/b/2", []byte("2"))
	f := w.open(w.tree(session, "c2"), "/a/b/2", write)
	if err := tree.Rename("/a", "/c", false); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("while another connection writes: %v", err)
	}
	f.Close()
	for to, want := range map[string]error{"/a/b/c": fs.ErrInvalid, "/" + strings.Repeat("x", 254): fs.ErrInvalid, "/none/c": fs.ErrNotExist} {
		if err := tree.Rename("/a", to, true); !errors.Is(err, want) {
			t.Errorf("to %s: %v", to, err)
		}
	}
	if err := tree.Rename("/a", "/x", true); err != nil {
		t.Fatal(err)
	}
	if got, want := w.snapshot(tree, "/"), []string{"/x/1", "/x/b/2"}; len(got) != 2 || !strings.HasPrefix(got[want[0]], "1") || !strings.HasPrefix(got[want[1]], "2") {
		t.Errorf("%q", got)
	}
	if got := w.names(tree, "/x"); !slices.Equal(got, []string{"1", "b", "e"}) {
		t.Errorf("%q", got)
	}
}

// Statfs tells what may still be written.
func TestSpace(t *testing.T) {
	w := newWorld(t)
	usage, fail := tier.Usage{Total: 100 << 30, Free: 10 << 30}, error(nil)
	w.s.o.Usage = func() (tier.Usage, error) { return usage, fail }
	w.s.o.Reserve = 1 << 30
	_, tree := w.job("vm")
	w.send(tree, "/x", nil)
	info, err := tree.StatFS("/")
	if want := (sftp.FSInfo{BlockSize: 65536, Total: 100 << 30, Free: 9 << 30, Avail: 9 << 30, Files: maxFiles, FilesFree: maxFiles - 1, NameMax: 255}); err != nil || info != want {
		t.Errorf("%+v, %v", info, err)
	}
	if info, err := tree.StatFS("/restore/vm"); err != nil || !info.ReadOnly {
		t.Errorf("%+v, %v", info, err)
	}
	user := w.user(User{Name: "u", VM: "vm", Quota: 20 << 30}, "c1")
	if info, _ := user.StatFS("/"); info.Total != 20<<30 || info.Avail != 9<<30 {
		t.Errorf("%+v", info)
	}
	usage.Free = 1 << 20 // below the reserve
	if info, _ := user.StatFS("/"); info.Avail != 0 {
		t.Errorf("%+v", info)
	}
	fail = tier.ErrUsageUnknown
	if info, err := tree.StatFS("/"); err != nil || info.Avail == 0 {
		t.Errorf("%+v, %v", info, err)
	}
}
