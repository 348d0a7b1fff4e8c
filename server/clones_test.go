package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/internal/nbdclient"
	"github.com/strongroom-backup/strongroom/internal/nbdio"
	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

// newClone makes a clone of a reference.
func (w *world) newClone(ref string, disks ...string) api.Clone {
	w.t.Helper()
	x, err := w.client.CreateClone(w.t.Context(), api.CloneRequest{Ref: ref, Disks: disks})
	if err != nil {
		w.t.Fatal(err)
	}
	w.hide(x)
	return x
}

// hide keeps the tokens of a clone out of the log.
func (w *world) hide(x api.Clone) {
	for _, d := range x.Disks {
		w.tokens = append(w.tokens, d.Export)
	}
}

// put writes to an export and goes away, without a flush.
func (w *world) put(export string, data []byte, off int64) {
	w.t.Helper()
	c := w.write(export)
	if _, err := c.WriteAt(data, off); err != nil {
		w.t.Fatal(err)
	}
	c.Close()
	w.unused(export)
}

// unused waits until the server has noticed that an export's clients are gone.
func (w *world) unused(export string) {
	w.t.Helper()
	eventually(w.t, "the clients are gone", func() bool { return len(w.nbd.Clients(export)) == 0 })
}

func TestClone(t *testing.T) {
	w := start(t)
	content := random(1, 2*mib)
	r := w.backup("vm1", "vda", content)
	newer := w.backup("vm1", "vda", random(9, 2*mib))
	x := w.newClone("vm1@" + r.Point)
	d := x.Disks[0]
	if x.VM != "vm1" || x.Base != r.Point || x.State != api.CloneOpen || d.Disk != "vda" || d.Size != 2*mib || d.Export == "" || strings.ContainsAny(d.Export, "/:") ||
		!strings.HasSuffix(d.URI, "/"+d.Export) || !strings.Contains(d.UnixURI, d.Export) || d.Clients != nil || x.Created.IsZero() {
		t.Fatalf("clone %+v", x)
	}
	if info, size, err := w.exports.Stat(t.Context(), d.Export); err != nil || size != 2*mib || info.ReadOnly || info.Description != "clone of disk vda of vm1@"+r.Point {
		t.Errorf("export %+v, %d, %v", info, size, err)
	}
	if !bytes.Equal(w.read(d.Export), content) {
		t.Fatal("the clone does not show its point")
	}
	change := random(2, 70_001)
	w.put(d.Export, change, 123_457)
	want := bytes.Clone(content)
	copy(want[123_457:], change)
	if !bytes.Equal(w.read(d.Export), want) || !bytes.Equal(w.read("vm1/vda@"+r.Point), content) {
		t.Error("what was written is not in the clone, or is in the point")
	}
	if list, err := w.client.Backups(t.Context()); err != nil || slices.ContainsFunc(list, func(b api.Backup) bool { return b.Session == x.Clone }) {
		t.Errorf("backups %+v, %v", list, err)
	}
	list, err := w.client.Clones(t.Context())
	if err != nil || len(list) != 1 || list[0].Clone != x.Clone || list[0].Disks[0].WrittenBytes != int64(len(change)) || list[0].Disks[0].JournalBytes == 0 {
		t.Errorf("clones %+v, %v", list, err)
	}

	w.unused(d.Export)
	sealed, err := w.client.SealClone(t.Context(), x.Clone, false)
	if err != nil || len(sealed.Images) != 1 || sealed.Images[0].Parent != r.Point || sealed.Images[0].Mode != "incremental" || sealed.Point == newer.Point {
		t.Fatalf("sealed %+v, %v", sealed, err)
	}
	if !bytes.Equal(w.read("vm1/vda@"+sealed.Point), want) {
		t.Error("the new point is not what the clone was")
	}
	if again, err := w.client.SealClone(t.Context(), x.Clone, true); err != nil || !reflect.DeepEqual(again, sealed) {
		t.Errorf("receipts differ:\n%+v\n%+v, %v", sealed, again, err)
	}
	if n := strings.Count(w.log.String(), "clone sealed"); n != 1 {
		t.Errorf("the seal is logged %d times", n)
	}
	if _, err := w.dial(d.Export); !errors.Is(err, nbdclient.ErrRefused) {
		t.Errorf("the sealed clone's export: %v", err)
	}
	_, err = w.client.DiscardClone(t.Context(), x.Clone, false)
	wantRefusal(t, err, http.StatusGone, sealed.Point)
	_, err = w.client.ResumeClone(t.Context(), x.Clone)
	wantRefusal(t, err, http.StatusGone, "sealed")
	after, err := w.client.Clone(t.Context(), x.Clone)
	if err != nil || after.State != api.CloneSealed || after.Point != sealed.Point || after.Disks[0].Export != "" || after.Disks[0].URI != "" {
		t.Errorf("afterwards %+v, %v", after, err)
	}
	if list, err := w.client.Clones(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("clones afterwards %+v, %v", list, err)
	}
}

func TestDiscardClone(t *testing.T) {
	w := start(t)
	r := w.backup("vm1", "vda", random(1, mib))
	x := w.newClone("vm1")
	w.put(x.Disks[0].Export, random(2, 4096), 0)
	for range 2 {
		if after, err := w.client.DiscardClone(t.Context(), x.Clone, false); err != nil || after.State != api.CloneDiscarded {
			t.Fatal(after, err)
		}
	}
	if n := strings.Count(w.log.String(), "clone discarded"); n != 1 {
		t.Errorf("it is logged %d times:\n%s", n, w.log)
	}
	_, err := w.client.SealClone(t.Context(), x.Clone, false)
	wantRefusal(t, err, http.StatusGone, "was discarded")
	_, err = w.client.ResumeClone(t.Context(), x.Clone)
	wantRefusal(t, err, http.StatusGone, "is discarded")
	if _, err := w.dial(x.Disks[0].Export); !errors.Is(err, nbdclient.ErrRefused) {
		t.Errorf("the discarded clone's export: %v", err)
	}
	if !bytes.Equal(w.read("vm1/vda"), random(1, mib)) {
		t.Error("the point changed")
	}
	if points, err := w.client.Points(t.Context(), "vm1"); err != nil || len(points) != 1 || points[0].Point != r.Point {
		t.Errorf("points %v, %v", points, err)
	}
}

// A clone that somebody uses is neither sealed nor discarded, and its user does
// not notice that it was asked for; force disconnects it.
func TestCloneInUse(t *testing.T) {
	w := start(t)
	w.backup("vm1", "vda", random(1, mib))
	for _, x := range []struct {
		name string
		end  func(id string, force bool) error
	}{
		{"seal", func(id string, force bool) error { return second(w.client.SealClone(t.Context(), id, force)) }},
		{"discard", func(id string, force bool) error { return second(w.client.DiscardClone(t.Context(), id, force)) }},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := w.newClone("vm1")
			token := c.Disks[0].Export
			user := w.write(token)
			me := fmt.Sprintf("process %d", os.Getpid())
			for range 2 {
				wantRefusal(t, x.end(c.Clone, false), http.StatusConflict, me)
				if _, err := user.WriteAt([]byte("still here"), 0); err != nil {
					t.Fatal(err)
				}
			}
			if st, err := w.client.Clone(t.Context(), c.Clone); err != nil || len(st.Disks[0].Clients) != 1 || st.Disks[0].Clients[0].PID != os.Getpid() ||
				!strings.HasPrefix(st.Disks[0].Clients[0].Peer, "unix:") {
				t.Errorf("clone %+v, %v", st, err)
			}
			another := w.write(token) // it can be opened as ever
			if _, err := another.WriteAt([]byte("another"), 4096); err != nil {
				t.Fatal(err)
			}
			if err := x.end(c.Clone, true); err != nil {
				t.Fatal(err)
			}
			if _, err := user.WriteAt([]byte("x"), 0); err == nil {
				t.Error("the client goes on")
			}
			if _, err := w.dial(token); !errors.Is(err, nbdclient.ErrRefused) {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
	p := w.read("vm1/vda@latest")
	if !bytes.HasPrefix(p, []byte("still here")) || !bytes.HasPrefix(p[4096:], []byte("another")) {
		t.Error("what was answered is not in the sealed point")
	}
}

func TestBadClones(t *testing.T) {
	w := start(t)
	r := w.backup("vm1", "vda", random(1, mib))
	b := w.open("vm2", api.DiskRequest{Disk: "vda", Size: mib})
	for _, x := range []struct {
		name   string
		q      api.CloneRequest
		status int
		word   string
	}{
		{"nothing", api.CloneRequest{}, 400, ""},
		{"no VM", api.CloneRequest{Ref: "vm9"}, 404, "vm9"},
		{"no point yet", api.CloneRequest{Ref: "vm2"}, 404, "vm2"},
		{"no such point", api.CloneRequest{Ref: "vm1@latest~7"}, 404, "vm1"},
		{"no disk", api.CloneRequest{Ref: "vm1/vdz"}, 404, "vdz"},
		{"no disk of those", api.CloneRequest{Ref: "vm1", Disks: []string{"vda", "vdz"}}, 404, "vdz"},
		{"disk twice", api.CloneRequest{Ref: "vm1", Disks: []string{"vda", "vda"}}, 400, "twice"},
		{"another disk", api.CloneRequest{Ref: "vm1/vda", Disks: []string{"vdb"}}, 400, "vda"},
		{"label", api.CloneRequest{Ref: "vm1", Labels: map[string]string{"a b": "c"}}, 400, "label"},
		{"traversal", api.CloneRequest{Ref: "../../etc"}, 400, ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			_, err := w.client.CreateClone(t.Context(), x.q)
			wantRefusal(t, err, x.status, x.word)
		})
	}
	if l, err := w.client.Clones(t.Context()); err != nil || len(l) != 0 {
		t.Errorf("clones %+v, %v", l, err)
	}
	clone := func(id string) []error {
		_, e1 := w.client.Clone(t.Context(), id)
		_, e2 := w.client.SealClone(t.Context(), id, true)
		_, e3 := w.client.DiscardClone(t.Context(), id, true)
		_, e4 := w.client.ResumeClone(t.Context(), id)
		return []error{e1, e2, e3, e4}
	}
	for _, err := range slices.Concat(clone("nosuch"), clone("../../etc"), clone(r.Point)) {
		wantRefusal(t, err, 404, "no such clone")
	}
	for _, err := range clone(b.Session) {
		wantRefusal(t, err, 400, "is a backup, not a clone")
	}
	// Nor is a clone a backup, and asking hurts nobody.
	x := w.newClone(r.Point)
	user := w.write(x.Disks[0].Export)
	for _, ask := range []func(context.Context, string) error{
		func(ctx context.Context, id string) error { return second(w.client.Backup(ctx, id)) },
		func(ctx context.Context, id string) error { return second(w.client.Commit(ctx, id)) },
		func(ctx context.Context, id string) error { return second(w.client.Abort(ctx, id)) },
	} {
		wantRefusal(t, ask(t.Context(), x.Clone), 400, "is a clone, not a backup")
	}
	if err := user.Flush(); err != nil {
		t.Errorf("its user: %v", err)
	}
	_, err := w.client.ResumeClone(t.Context(), x.Clone)
	wantRefusal(t, err, 410, "only a stale one is resumed")
	for method, path := range map[string]string{"DELETE": "", "POST": "/seal"} {
		if status, text := w.askUnix(method, api.Base+"/clones/"+x.Clone+path+"?force=perhaps"); status != 400 || !strings.Contains(text, "perhaps") {
			t.Errorf("%s: %d %s", method, status, text)
		}
	}
}

// askUnix sends a request that no client of ours would.
func (w *world) askUnix(method, path string) (status int, text string) {
	w.t.Helper()
	q, err := http.NewRequestWithContext(w.t.Context(), method, "http://strongroom"+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	resp := httptest.NewRecorder()
	w.handler(true).ServeHTTP(resp, q)
	return resp.Code, resp.Body.String()
}

// A point that a clone is made of stays, whoever wants it gone, and says why.
func TestCloneKeepsItsPoint(t *testing.T) {
	w := start(t)
	r := w.backup("vm1", "vda", random(1, mib))
	mid := w.backup("vm1", "vda", random(2, mib))
	last := w.backup("vm1", "vda", random(3, mib))
	x := w.newClone(r.Point)
	for _, now := range []bool{false, true} {
		_, err := w.client.RemovePoint(t.Context(), r.Point, now)
		wantRefusal(t, err, http.StatusConflict, x.Clone)
		var e *api.Error
		if errors.As(err, &e) && !strings.Contains(e.Hint, "strongroom clone") {
			t.Errorf("hint %q", e.Hint)
		}
	}
	_, err := w.client.Merge(t.Context(), "vm1", "vda", api.MergeRequest{From: r.Point, Into: mid.Point})
	wantRefusal(t, err, http.StatusConflict, x.Clone)
	report, err := w.client.PlanPrune(t.Context(), api.PruneRequest{VM: "vm1", Keep: &api.Keep{Last: 1}})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range report.Points {
		if keep := p.Point != mid.Point; p.Keep != keep || p.Point == r.Point && p.Reason != "clone "+x.Clone+" is made of it" {
			t.Errorf("prune: %+v", p)
		}
	}
	j := w.finish(w.client.Prune(t.Context(), api.PruneRequest{VM: "vm1", Keep: &api.Keep{Last: 1}}))
	if j.State != "done" || j.Prune == nil || j.Prune.Removed != 1 {
		t.Errorf("prune: %+v", j)
	}
	if _, err := w.client.DiscardClone(t.Context(), x.Clone, false); err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.RemovePoint(t.Context(), r.Point, true); err != nil {
		t.Errorf("without the clone: %v", err)
	}
	if points, err := w.client.Points(t.Context(), "vm1"); err != nil || len(points) != 1 || points[0].Point != last.Point {
		t.Errorf("points %+v, %v", points, err)
	}
}

// piece is a place of a disk that one writer writes again and again: what was
// answered last, and what was sent since and not answered.
type piece struct{ answered, sent []byte }

const pieceSize = 5000

// scribble writes to places of its own, over connections that come and go, until
// done is closed. begun is closed after the first write.
func (w *world) scribble(token string, at int64, pieces []piece, begun, done chan struct{}) {
	first := sync.OnceFunc(func() { close(begun) })
	for n := 0; ; n++ {
		select {
		case <-done:
			return
		default:
		}
		c, err := nbdio.Dial(w.t.Context(), "unix", w.info.NBD.Socket, token)
		if err != nil {
			continue // the clone has ended, or is about to
		}
		for k := range pieces {
			p := random(byte(n*len(pieces)+k), pieceSize)
			pieces[k].sent = p
			if _, err := c.WriteAt(p, at+int64(k)*pieceSize); err != nil {
				break
			}
			pieces[k] = piece{answered: p}
			first()
		}
		c.Drop()
	}
}

// Seals, a discard and clients that come and go, all at once: one verb wins, and
// every write that was answered is in the point.
func TestSealWhileWriting(t *testing.T) {
	w := start(t)
	base := w.backup("vm1", "vda", make([]byte, 4*mib))
	for round := range 4 {
		x := w.newClone(base.Point)
		var writers, verbs sync.WaitGroup
		done := make(chan struct{})
		var pieces [4][8]piece
		for i := range pieces {
			begun := make(chan struct{})
			for k := range pieces[i] {
				pieces[i][k].answered = make([]byte, pieceSize)
			}
			writers.Go(func() { w.scribble(x.Disks[0].Export, int64(i)*mib, pieces[i][:], begun, done) })
			<-begun
		}
		var mu sync.Mutex
		var receipts []api.Receipt
		discarded := false
		for v := range 6 {
			verbs.Go(func() {
				if v == 5 && round%2 == 1 {
					_, err := w.client.DiscardClone(t.Context(), x.Clone, true)
					mu.Lock()
					defer mu.Unlock()
					discarded = err == nil
					return
				}
				r, err := w.client.SealClone(t.Context(), x.Clone, v > 0)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					receipts = append(receipts, r)
				}
			})
		}
		verbs.Wait()
		close(done)
		writers.Wait()
		if discarded == (len(receipts) > 0) {
			t.Fatalf("round %d: discarded %v, sealed %d times", round, discarded, len(receipts))
		}
		if discarded {
			continue
		}
		got := w.read("vm1/vda@" + receipts[0].Point)
		for _, r := range receipts {
			if r.Point != receipts[0].Point {
				t.Fatalf("round %d: two points: %v", round, receipts)
			}
		}
		for i := range pieces {
			for k, p := range pieces[i] {
				have := got[i*mib+k*pieceSize:][:pieceSize]
				if !bytes.Equal(have, p.answered) && !bytes.Equal(have, p.sent) {
					t.Errorf("round %d: the last write of writer %d to piece %d was answered and is not in the point", round, i, k)
				}
			}
		}
	}
}

func TestCloneSurvivesRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	w := startOn(t, dir)
	content := random(1, mib)
	w.backup("vm1", "vda", content)
	x := w.newClone("vm1")
	change := random(2, 10_000)
	w.put(x.Disks[0].Export, change, 70_000)
	w.shut()
	w = startOn(t, dir)
	w.hide(x)
	copy(content[70_000:], change)
	if !bytes.Equal(w.read(x.Disks[0].Export), content) {
		t.Error("what was written is lost")
	}
	if !strings.Contains(w.log.String(), `msg="clone goes on after the restart" clone=`+x.Clone) {
		t.Errorf("log:\n%s", w.log)
	}
	again, err := w.client.Clone(t.Context(), x.Clone)
	if err != nil || again.State != api.CloneOpen || again.Disks[0].Export != x.Disks[0].Export {
		t.Errorf("clone %+v, %v", again, err)
	}
}

// On a full store a clone is made and read; writes of new data get ENOSPC, and the
// clone goes on when there is space again.
func TestCloneOnFullStore(t *testing.T) {
	free := new(atomic.Uint64)
	free.Store(1 << 40)
	w := start(t, func(o *Options) { o.FS = fullDisk{vfs.Default, free}; o.Config.Store.Reserve = units.GiB })
	content := random(1, mib)
	w.backup("vm1", "vda", content)
	free.Store(1 << 20)
	x := w.newClone("vm1")
	token := x.Disks[0].Export
	if !bytes.Equal(w.read(token), content) {
		t.Error("it cannot be read")
	}
	c := w.write(token)
	rng, block := rand.NewChaCha8([32]byte{9}), make([]byte, 65536)
	fresh := func() error {
		rng.Read(block)
		return second(c.WriteAt(block, 0))
	}
	eventually(t, "a write of new data fails", func() bool { return fresh() != nil }) // the store looks at its disk once a second
	if err := fresh(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a write of new data: %v", err)
	}
	free.Store(1 << 40)
	eventually(t, "a write of new data succeeds", func() bool { return fresh() == nil })
	if _, err := w.client.SealClone(t.Context(), x.Clone, true); err != nil {
		t.Error(err)
	}
	if !bytes.HasPrefix(w.read("vm1/vda@latest"), block) {
		t.Error("what was written is not in the point")
	}
}

// failingFS is a file system on which syncs of journals fail while it is told so.
type failingFS struct {
	vfs.FS
	bad *atomic.Bool
}

type failingFile struct {
	vfs.File
	bad *atomic.Bool
}

func (f failingFS) wrap(name string, file vfs.File, err error) (vfs.File, error) {
	if err != nil || !strings.HasSuffix(name, ".journal") {
		return file, err
	}
	return failingFile{file, f.bad}, nil
}

func (f failingFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, c)
	return f.wrap(name, file, err)
}

func (f failingFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.OpenReadWrite(name, c, o...)
	return f.wrap(name, file, err)
}

func (f failingFile) Sync() error     { return f.unless(f.File.Sync) }
func (f failingFile) SyncData() error { return f.unless(f.File.SyncData) }

func (f failingFile) unless(sync func() error) error {
	if f.bad.Load() {
		return syscall.EIO
	}
	return sync()
}

// A clone whose journal could not be synced is stale: nobody is served from it,
// until it is resumed as at its last flush, under other names.
func TestStaleClone(t *testing.T) {
	bad := new(atomic.Bool)
	dir := filepath.Join(t.TempDir(), "data")
	w := startOn(t, dir, func(o *Options) { o.FS = failingFS{vfs.Default, bad} })
	content := random(1, mib)
	w.backup("vm1", "vda", content)
	x := w.newClone("vm1")
	token := x.Disks[0].Export
	c := w.write(token)
	if err := errors.Join(second(c.WriteAt([]byte("flushed"), 0)), c.Flush(), second(c.WriteAt([]byte("lost"), 0))); err != nil {
		t.Fatal(err)
	}
	bad.Store(true)
	if err := c.Flush(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("a flush that failed: %v", err)
	}
	if _, err := c.ReadAt(make([]byte, 4), 0); err == nil {
		t.Error("it is still read")
	}
	bad.Store(false)
	st, err := w.client.Clone(t.Context(), x.Clone)
	if err != nil || st.State != api.CloneStale || st.Reason == "" || st.Disks[0].Export != "" || len(st.Disks[0].Clients) != 1 {
		t.Fatalf("clone %+v, %v", st, err)
	}
	if _, err := w.dial(token); !errors.Is(err, nbdclient.ErrRefused) || !strings.Contains(err.Error(), "stale") {
		t.Errorf("its export: %v", err)
	}
	for _, word := range []string{`level=ERROR msg="clone is stale: acknowledged writes may be lost; its exports are refused" clone=` + x.Clone} {
		if !strings.Contains(w.log.String(), word) {
			t.Errorf("no %s in the log:\n%s", word, w.log)
		}
	}
	if h, err := w.client.Health(t.Context()); err != nil || len(h.Warnings) != 1 || !strings.Contains(h.Warnings[0], "strongroom clone list") {
		t.Errorf("health %+v, %v", h, err)
	}
	if status, text, _ := w.ask("GET", "/metrics", "", "", nil); status != 200 || !strings.Contains(text, `strongroom_clones{state="stale"} 1`) {
		t.Errorf("metrics:\n%s", text)
	}
	_, err = w.client.SealClone(t.Context(), x.Clone, true)
	wantRefusal(t, err, http.StatusConflict, "stale")
	_, err = w.client.RemovePoint(t.Context(), x.Base, false)
	wantRefusal(t, err, http.StatusConflict, x.Clone)

	again, err := w.client.ResumeClone(t.Context(), x.Clone)
	if err != nil || again.State != api.CloneOpen || again.Disks[0].Export == "" || again.Disks[0].Export == token || again.Clone != x.Clone {
		t.Fatalf("resumed %+v, %v", again, err)
	}
	w.hide(again)
	if _, err := c.WriteAt([]byte("too late"), 0); err == nil {
		t.Error("who had the old export goes on")
	}
	if _, err := w.dial(token); !errors.Is(err, nbdclient.ErrRefused) || !strings.Contains(err.Error(), "resumed") {
		t.Errorf("the old export: %v", err)
	}
	copy(content, "flushed")
	// The last write may be there, as on a real disk; what was flushed is.
	if got := w.read(again.Disks[0].Export); !bytes.Equal(got, content) && (!bytes.HasPrefix(got, []byte("losthed")) || !bytes.Equal(got[7:], content[7:])) {
		t.Errorf("it begins with %q", got[:12])
	}
	w.put(again.Disks[0].Export, []byte("goes on"), 0)
	w.shut()
	w = startOn(t, dir)
	w.hide(again)
	copy(content, "goes on")
	r, err := w.client.SealClone(t.Context(), x.Clone, false)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(w.read("vm1/vda@"+r.Point), content) {
		t.Error("the sealed point differs")
	}
}
