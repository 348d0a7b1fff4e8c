package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

func TestSecondServerRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	w := startOn(t, dir)
	c := testConfig(dir)
	s, err := Open(Options{Config: c})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("a second server: %v, %v", s, err)
	}
	if _, err := w.client.Health(t.Context()); err != nil {
		t.Errorf("the first suffers: %v", err)
	}
	w.backup("vm1", "vda", random(1, mib)) // its socket is still there
	w.shut()
	startOn(t, dir).read("vm1/vda")
}

// tree is every file of a directory with its content's hash.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			out[path] = "directory"
			return err
		}
		text, err := os.ReadFile(path)
		out[path] = fmt.Sprintf("%x", sha256.Sum256(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// changeIdentity rewrites one of the identity's files.
func changeIdentity(t *testing.T, path string, change func(map[string]any)) {
	t.Helper()
	text, err := os.ReadFile(path)
	m := map[string]any{}
	if err != nil || json.Unmarshal(text, &m) != nil {
		t.Fatal(err)
	}
	change(m)
	text, _ = json.Marshal(m)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestNewerFormatIsLeftAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	w := startOn(t, dir)
	w.backup("vm1", "vda", random(1, mib))
	w.shut()
	os.Remove(filepath.Join(dir, lockName)) // nor may one be made
	changeIdentity(t, filepath.Join(dir, identityName), func(m map[string]any) { m["format"] = 2 })
	before := tree(t, dir)
	_, err := Open(Options{Config: testConfig(dir)})
	if !errors.Is(err, ErrNewerFormat) || !strings.Contains(err.Error(), "format 2") || !strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("a newer format: %v", err)
	}
	after := tree(t, dir)
	for path, sum := range before {
		if after[path] != sum {
			t.Errorf("%s changed", path)
		}
		delete(after, path)
	}
	for path := range after {
		t.Errorf("%s was made", path)
	}
}

// What a lost or damaged identity file leads to.
func TestIdentityFiles(t *testing.T) {
	damage := func(path string) { os.WriteFile(path, []byte("{}"), 0o600) }
	for _, x := range []struct {
		name   string
		change func(main, twin string)
		fails  string // empty: starts and reads
	}{
		{"main lost", func(main, twin string) { os.Remove(main) }, ""},
		{"copy lost", func(main, twin string) { os.Remove(twin) }, ""},
		{"both lost", func(main, twin string) { os.Remove(main); os.Remove(twin) }, "bring that file back"},
		{"main damaged", func(main, twin string) { damage(main) }, "damaged"},
		{"copy damaged", func(main, twin string) { damage(twin) }, "damaged"},
		{"main torn", func(main, twin string) { os.Truncate(main, 20) }, "not the identity"},
		{"another store's copy", func(main, twin string) {
			changeIdentity(t, twin, func(m map[string]any) { m["store_id"] = strings.Repeat("ab", 16) })
		}, "different stores"},
		{"key of wrong length", func(main, twin string) {
			changeIdentity(t, main, func(m map[string]any) { m["domain_key"] = "abcd" })
		}, "damaged"},
		{"tier not mounted", func(main, twin string) {
			tier := filepath.Dir(twin)
			os.Rename(tier, tier+".away")
			os.Mkdir(tier, 0o700)
		}, "tier"},
	} {
		t.Run(x.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			w := startOn(t, dir)
			w.backup("vm1", "vda", random(1, mib))
			id := w.info.StoreID
			w.shut()
			main, twin := filepath.Join(dir, identityName), filepath.Join(dir, tierName, identityName)
			x.change(main, twin)
			if x.fails != "" {
				s, err := Open(Options{Config: testConfig(dir)})
				if err == nil || !strings.Contains(err.Error(), x.fails) {
					t.Errorf("got %v, %v; want %q", s, err, x.fails)
				}
				return
			}
			w = startOn(t, dir)
			if w.info.StoreID != id || !bytes.Equal(w.read("vm1/vda"), random(1, mib)) {
				t.Error("another store, or other data")
			}
			for _, path := range []string{main, twin} {
				if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
					t.Errorf("%s: %v, %v", path, st, err)
				}
			}
		})
	}
}

// Whatever a crash leaves of the very first start, the next start completes it.
func TestFirstStartCrash(t *testing.T) {
	now := time.Now()
	mem := vfs.NewCrashableMem()
	crash := func() vfs.FS { return mem.CrashClone(vfs.CrashCloneCfg{}) }
	d, err := openDataDir(mem, "/data", now)
	if err != nil {
		t.Fatal(err)
	}
	id := d.id.StoreID
	again, err := openDataDir(crash(), "/data", now)
	if err != nil || again.id.StoreID != id || again.hasFile {
		t.Fatalf("after the copy was written: %+v, %v", again, err)
	}
	if _, err := d.settle(); err != nil {
		t.Fatal(err)
	}
	again, err = openDataDir(crash(), "/data", now)
	if err != nil || again.id != d.id || !again.hasFile || !again.hasCopy {
		t.Fatalf("after both were written: %+v, %v", again, err)
	}
}

// A session outlives an orderly restart: what was acknowledged is there, and
// the client goes on under the same name.
func TestRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	w := startOn(t, dir)
	b := w.open("vm1", api.DiskRequest{Disk: "vda", Size: mib})
	content := random(1, mib)
	c := w.write(b.Disks[0].Export)
	if _, err := c.WriteAt(content[:mib/2], 0); err != nil {
		t.Fatal(err)
	}
	w.shut()
	for _, path := range []string{w.info.NBD.Socket, w.APISocket()} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is still there", path)
		}
	}
	if _, err := c.WriteAt(content, 0); err == nil {
		t.Error("a write after the end was answered")
	}
	w = startOn(t, dir)
	c = w.write(b.Disks[0].Export)
	if _, err := c.WriteAt(content[mib/2:], mib/2); err != nil {
		t.Fatal(err)
	}
	w.commit(b.Session)
	if !bytes.Equal(w.read("vm1/vda"), content) {
		t.Error("the content differs")
	}
}

// Draining ends in time though clients hold connections open and one sits in
// the middle of a request, and though a commit is asked for meanwhile.
func TestDrainWithClients(t *testing.T) {
	w := start(t, func(o *Options) { o.Config.DrainTimeout = units.Duration(20 * time.Second) })
	b := w.open("vm1", api.DiskRequest{Disk: "vda", Size: 64 * mib})
	c := w.write(b.Disks[0].Export)
	w.backup("vm2", "vda", random(1, mib))
	for range 3 {
		idle, err := net.Dial("unix", w.info.NBD.Socket)
		if err != nil {
			t.Fatal(err)
		}
		defer idle.Close()
	}
	answered := make(chan int)
	go func() {
		n := 0
		for off := int64(0); off < 64*mib; off += mib {
			if _, err := c.WriteAt(random(byte(off/mib), mib), off); err != nil {
				break
			}
			n++
		}
		answered <- n
	}()
	eventually(t, "writes flow", func() bool {
		st, err := w.client.Backup(t.Context(), b.Session)
		return err == nil && st.Disks[0].WrittenBytes > 0
	})
	begun := time.Now()
	w.shut()
	if d := time.Since(begun); d > 10*time.Second {
		t.Errorf("draining took %v", d)
	}
	n := <-answered
	w2 := startOn(t, w.config.Data)
	got := w2.read(b.Disks[0].Export)
	for i := range n {
		if !bytes.Equal(got[i*mib:][:mib], random(byte(i), mib)) {
			t.Fatalf("acknowledged write %d of %d is lost", i, n)
		}
	}
}

// Run ends with an error when a listener dies, and closes everything.
func TestListenerDies(t *testing.T) {
	s, err := Open(Options{Config: testConfig(filepath.Join(t.TempDir(), "data"))})
	if err != nil {
		t.Fatal(err)
	}
	s.listeners.httpTCP.Close()
	if err := s.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "HTTP") {
		t.Errorf("Run: %v", err)
	}
	s, err = Open(Options{Config: s.config})
	if err != nil {
		t.Fatalf("the directory is not free: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestListenProblems(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	os.WriteFile(file, nil, 0o600)
	sock := filepath.Join(dir, "sock")
	other, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, x := range []struct {
		key    string
		change func(*Config)
	}{
		{"nbd.listen", func(c *Config) { c.NBD.Listen = taken.Addr().String() }},
		{"http.listen", func(c *Config) { c.HTTP.Listen = taken.Addr().String() }},
		{"nbd.socket", func(c *Config) { c.NBD.Socket = file }},
		{"api.socket", func(c *Config) { c.API.Socket = sock }},
		{"nbd.max-connections", func(c *Config) { c.NBD.MaxConnections = 0 }},
	} {
		c := testConfig(filepath.Join(dir, "data"))
		x.change(&c)
		if s, err := Open(Options{Config: c}); err == nil || !strings.Contains(err.Error(), x.key) {
			t.Errorf("%s: %v, %v", x.key, s, err)
		}
	}
	s, err := Open(Options{Config: testConfig(filepath.Join(dir, "data"))})
	if err != nil {
		t.Fatalf("after all these the directory is not free: %v", err)
	}
	s.Close()
}

// A socket that a killed server left is replaced, and has the mode asked for.
func TestSockets(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	os.Mkdir(dir, 0o700)
	for _, name := range []string{"nbd.sock", "api.sock", "api.soc~"} {
		ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, name), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		ln.SetUnlinkOnClose(false)
		ln.Close()
	}
	w := startOn(t, dir, func(o *Options) { o.Config.NBD.SocketMode = 0o660 })
	for path, mode := range map[string]fs.FileMode{w.info.NBD.Socket: 0o660, w.APISocket(): 0o600} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != mode || st.Mode().Type() != fs.ModeSocket {
			t.Errorf("%s: %v, %v", path, st, err)
		}
	}
}

// With nothing but the unix sockets.
func TestNoTCP(t *testing.T) {
	w := start(t, func(o *Options) { o.Config.NBD.Listen, o.Config.HTTP.Listen = None, None })
	b := w.open("vm1", api.DiskRequest{Disk: "vda", Size: mib})
	if b.Disks[0].URI != "" || b.Disks[0].UnixURI == "" || w.NBDAddress() != "" || w.HTTPAddress() != "" {
		t.Errorf("%+v", b.Disks[0])
	}
}

func TestAdvertise(t *testing.T) {
	w := start(t, func(o *Options) { o.Config.NBD.Advertise = "backup.example:10809" })
	b := w.open("vm1", api.DiskRequest{Disk: "vda", Size: mib})
	if want := "nbd://backup.example:10809/" + b.Disks[0].Export; b.Disks[0].URI != want {
		t.Errorf("URI %s, want %s", b.Disks[0].URI, want)
	}
}

// systemd hears that the server is ready, and that it stops.
func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	w := start(t)
	for _, want := range []string{"READY=1", "STOPPING=1"} {
		buf := make([]byte, 100)
		c.SetReadDeadline(time.Now().Add(20 * time.Second))
		n, err := c.Read(buf)
		if err != nil || string(buf[:n]) != want {
			t.Fatalf("%q, %v; want %s", buf[:n], err, want)
		}
		if want == "READY=1" {
			w.shut()
		}
	}
}
