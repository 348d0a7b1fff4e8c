package integration

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/internal/testdisk"
)

// noise is n bytes nobody has twice.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 's', 'f', 't', 'p'})
	_, _ = rng.Read(b)
	return b
}

// TestFileFsyncThenKill kills the server the moment fsync has answered, and
// mounts again: with the same login, what was synced is there, and so is what
// was closed before.
func TestFileFsyncThenKill(t *testing.T) {
	t.Parallel()
	s := newFileScene(t)
	d := s.drop("vm")
	var want [][]byte
	name := func(i int) string { return "f" + string(rune('0'+i)) + ".bin" }
	check := func(dir string) {
		t.Helper()
		for i, data := range want {
			if got, err := os.ReadFile(filepath.Join(dir, name(i))); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%s after %d kills: %d bytes, not the %d that were written; %v", name(i), len(want)/2, len(got), len(data), err)
			}
		}
	}
	options := [][]string{{"direct_io"}, {"max_read=65536", "max_write=65536"}, {"direct_io", "max_write=65536"}}
	for round := range options {
		dir := d.mount(options[round]...)
		check(dir)
		closed, synced := noise(uint64(2*round), 700_001), noise(uint64(2*round+1), 3_000_017)
		s.putSynced(filepath.Join(dir, name(2*round)), closed)
		f, err := os.Create(filepath.Join(dir, name(2*round+1)))
		s.must(err)
		// Backwards, so that nothing can be acknowledged as a prefix.
		for at := len(synced) / 4096 * 4096; at >= 0; at -= 4096 {
			_, err := f.WriteAt(synced[at:min(at+4096, len(synced))], int64(at))
			s.must(err)
		}
		s.must(f.Sync())
		s.srv.Kill()
		f.Close() // of a mount that is no more
		want = append(want, closed, synced)
		s.must(s.srv.Start(s.ctx))
	}
	last := d.mount()
	check(last)
	if _, err := s.srv.Commit(s.ctx, d.Session); err == nil || !strings.Contains(err.Error(), name(1)) {
		t.Fatalf("files that were open at a kill: %v", err)
	}
	for i, data := range want {
		s.put(filepath.Join(last, name(i)), data)
	}
	r := d.commit()
	dir := s.restores("vm")
	check(filepath.Join(dir, r.Point, "files"))
}

// TestFileUploadOverRestart stops the server cleanly in the middle of an upload
// and goes on with the same login.
func TestFileUploadOverRestart(t *testing.T) {
	t.Parallel()
	s := newFileScene(t)
	d := s.drop("vm")
	disk, err := os.ReadFile(base.Path)
	s.must(err)
	half := len(disk) / 2
	m := d.mountWith("direct_io")
	f, err := os.Create(filepath.Join(m.Dir, "vda.raw"))
	s.must(err)
	_, err = f.Write(disk[:half])
	s.must(err, f.Sync(), s.stop())
	if _, err := f.Write(disk[half : half+4096]); err == nil {
		err = f.Sync()
		if err == nil {
			t.Error("a server that had been stopped took a write")
		}
	}
	f.Close()
	s.must(s.srv.Start(s.ctx))
	f, err = os.OpenFile(filepath.Join(d.mount(), "vda.raw"), os.O_WRONLY, 0)
	s.must(err)
	info, err := f.Stat()
	s.must(err)
	if info.Size() != int64(half) {
		t.Errorf("after the restart the file has %d bytes, not %d", info.Size(), half)
	}
	_, err = f.WriteAt(disk[half:], int64(half))
	s.must(err, f.Close())
	s.restored("vm", "vda", d.commit("vda").Point, base.Path)
}

// TestFileLoginDiesWithItsSession: after a commit, an abort and an expiry the
// mount fails and nobody gets in with the login again.
func TestFileLoginDiesWithItsSession(t *testing.T) {
	t.Parallel()
	s := newFileScene(t)
	ends := map[string]func(d *drop){
		"commit": func(d *drop) { d.commit() },
		"abort":  (*drop).abort,
		"expiry": func(d *drop) {
			for st := d.Backup; st.State != "expired"; time.Sleep(20 * time.Millisecond) {
				var err error
				st, err = s.srv.Status(s.ctx, d.Session)
				s.must(err)
			}
		},
	}
	for how, end := range ends {
		flags := []string{}
		if how == "expiry" {
			flags = []string{"--ttl", "2s"}
		}
		d := s.drop("vm-"+how, flags...)
		m := d.mountWith("direct_io")
		s.put(filepath.Join(m.Dir, "note.txt"), []byte("kept"))
		f, err := os.Create(filepath.Join(m.Dir, "open.bin"))
		s.must(err)
		_, err = f.Write([]byte("before the end"))
		s.must(err, f.Sync())
		if how == "commit" { // which waits for it
			s.must(f.Close())
			f, err = os.Open(f.Name())
			s.must(err)
		}
		end(d)
		if _, err := f.Write([]byte("after it")); err == nil && f.Sync() == nil {
			t.Errorf("%s: a file was written after it", how)
		}
		if n, err := f.ReadAt(make([]byte, 6), 0); err == nil {
			t.Errorf("%s: %d bytes were read after it", how, n)
		}
		f.Close()
		select {
		case <-m.Exited(): // and with it the mount
		case <-s.ctx.Done():
			t.Fatalf("%s: the mount is still there", how)
		}
		if c, err := tryDialSSH(d.client); err == nil {
			c.Close()
			t.Errorf("%s: the login still works", how)
		} else if !strings.Contains(err.Error(), "unable to authenticate") {
			t.Errorf("%s: the login is refused with %v", how, err)
		}
	}
	if n := s.points("vm-commit"); n != 1 {
		t.Errorf("%d points of the drop that was committed", n)
	}
}

// TestFileCommitOverKill kills the server during commits of files. Whatever was
// answered, there is one point with what was dropped, or the session is as it
// was and is committed then.
func TestFileCommitOverKill(t *testing.T) {
	t.Parallel()
	s := newFileScene(t)
	for round := range 4 {
		vm := "vm" + string(rune('0'+round))
		d := s.drop(vm)
		dir := d.mount()
		s.must(testdisk.Copy(base.Path, filepath.Join(dir, "vda.raw")))
		note := noise(uint64(round), 5000)
		s.putSynced(filepath.Join(dir, "note.bin"), note)
		s.tool("sync", filepath.Join(dir, "vda.raw"))
		s.closed()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = s.srv.Commit(s.ctx, d.Session) // asked again below
		}()
		time.Sleep(time.Duration(round*round) * 10 * time.Millisecond)
		s.srv.Kill()
		<-done
		s.must(s.srv.Start(s.ctx))
		r := d.commit("vda")
		if n := s.points(vm); n != 1 {
			t.Errorf("round %d: %d points", round, n)
		}
		s.same(vm, "vda", r.Point, base.Path)
		if got, err := os.ReadFile(filepath.Join(s.restores(vm), r.Point, "files", "note.bin")); err != nil || !bytes.Equal(got, note) {
			t.Errorf("round %d: note.bin: %d bytes, %v", round, len(got), err)
		}
	}
}
