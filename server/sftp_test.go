package server

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	client "github.com/pkg/sftp"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/ssh"

	"github.com/strongroom-backup/strongroom/internal/nbdclient"
	"github.com/strongroom-backup/strongroom/server/api"
)

// withSFTP turns SFTP on at a free port.
func withSFTP(users ...SFTPUser) func(*Options) {
	return func(o *Options) {
		o.Config.SFTP.Listen, o.Config.SFTP.Users = "127.0.0.1:0", users
	}
}

// drop opens a backup for files.
func (w *world) drop(vm string) api.Backup {
	w.t.Helper()
	b, err := w.client.StartBackup(w.t.Context(), api.BackupRequest{VM: vm, SFTP: true})
	if err != nil {
		w.t.Fatal(err)
	}
	w.tokens = append(w.tokens, b.SFTP.Password, strings.Split(b.SFTP.PrivateKey, "\n")[2])
	return b
}

// login logs in with one method and starts SFTP.
func (w *world) login(user string, how ssh.AuthMethod) (*client.Client, error) {
	w.t.Helper()
	hostKey, _, _, _, err := ssh.ParseAuthorizedKey([]byte(w.sftpInfo.HostKey))
	if err != nil {
		w.t.Fatal(err)
	}
	conn, err := ssh.Dial("tcp", w.SFTPAddress(), &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{how}, HostKeyCallback: ssh.FixedHostKey(hostKey), Timeout: 20 * time.Second,
		Config: ssh.Config{Ciphers: []string{"aes128-gcm@openssh.com"}},
	})
	if err != nil {
		return nil, err
	}
	w.t.Cleanup(func() { conn.Close() })
	c, err := client.NewClient(conn)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	w.t.Cleanup(func() { c.Close() })
	return c, nil
}

func (w *world) mustLogin(user string, how ssh.AuthMethod) *client.Client {
	w.t.Helper()
	c, err := w.login(user, how)
	if err != nil {
		w.t.Fatalf("%s: %v\n%s", user, err, w.log)
	}
	return c
}

// enter logs a job in with its key.
func (w *world) enter(b api.Backup) *client.Client {
	w.t.Helper()
	return w.mustLogin(b.SFTP.User, keyOf(w.t, b))
}

func keyOf(t *testing.T, b api.Backup) ssh.AuthMethod {
	t.Helper()
	key, err := ssh.ParsePrivateKey([]byte(b.SFTP.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	return ssh.PublicKeys(key)
}

// locked checks that neither the key nor the password of a job lets in.
func (w *world) locked(b api.Backup) {
	w.t.Helper()
	for _, how := range []ssh.AuthMethod{keyOf(w.t, b), ssh.Password(b.SFTP.Password)} {
		if _, err := w.login(b.SFTP.User, how); err == nil {
			w.t.Errorf("%s still lets in", b.SFTP.User)
		}
	}
}

func put(t *testing.T, c *client.Client, name string, content []byte) {
	t.Helper()
	f, err := c.Create(name)
	if err != nil {
		t.Fatalf("create %s: %v", name, err)
	}
	if _, err := f.ReadFrom(bytes.NewReader(content)); err != nil {
		t.Fatalf("write %s: %v", name, err)
	}
	if err := f.Close(); err != nil {
		t.Fatalf("close %s: %v", name, err)
	}
}

func get(t *testing.T, c *client.Client, name string) []byte {
	t.Helper()
	f, err := c.Open(name)
	if err != nil {
		t.Fatalf("open %s: %v", name, err)
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		t.Fatalf("read %s: %v", name, err)
	}
	return text
}

// newUserKey makes a key pair: how to log in, and the line of authorized_keys.
func newUserKey(t *testing.T) (ssh.Signer, string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
}

// A job's whole life: login, upload, commit, and the point by mount and by NBD.
func TestJobOverSFTP(t *testing.T) {
	t.Parallel()
	w := start(t, withSFTP())
	b := w.drop("vm1")
	l := b.SFTP
	if l.User != "job-"+b.Session || l.Path != "/" || l.Address != w.SFTPAddress() || !strings.HasPrefix(l.HostKey, "ssh-ed25519 ") ||
		!strings.HasPrefix(l.KnownHosts, "[127.0.0.1]:") || len(l.Password) < 22 || !strings.Contains(l.SSHFS, "Ciphers=aes128-gcm@openssh.com") {
		t.Errorf("login %+v", l)
	}
	content, notes := random(1, 3*mib), []byte("<domain/>")
	copy(content[mib:], make([]byte, mib))
	c := w.enter(b)
	put(t, c, "/vda.raw", content)
	put(t, c, "/notes.xml", notes)
	if got := get(t, c, "/vda.raw"); !bytes.Equal(got, content) {
		t.Error("the file reads as something else")
	}
	st, err := w.client.Backup(t.Context(), b.Session)
	if err != nil || len(st.Files) != 2 || st.Files[1].Name != "vda.raw" || st.Files[1].Size != 3*mib || st.SFTP == nil || st.SFTP.PrivateKey+st.SFTP.Password != "" {
		t.Errorf("status %+v, %v", st, err)
	}
	conns, err := w.client.SFTPConnections(t.Context())
	if err != nil || len(conns) != 1 || conns[0].User != l.User || conns[0].Method != "key" || conns[0].BytesIn < 3*mib {
		t.Errorf("connections %+v, %v", conns, err)
	}

	r := w.commit(b.Session)
	if len(r.Images) != 1 || r.Images[0].Disk != "vda" || r.Images[0].Mode != "full" || len(r.Files) != 2 || r.Files[0].Name != "notes.xml" ||
		r.Files[1].Disk != "vda" || r.Files[1].Size != 3*mib || len(r.Files[1].Root) != 64 {
		t.Errorf("receipt %+v", r)
	}
	if again := w.commit(b.Session); !reflect.DeepEqual(again, r) {
		t.Errorf("receipts differ:\n%+v\n%+v", r, again)
	}
	eventually(t, "the client is disconnected", func() bool { _, err := c.Stat("/"); return err != nil })
	w.locked(b)
	if st, err := w.client.Backup(t.Context(), b.Session); err != nil || st.SFTP != nil || st.Point != r.Point {
		t.Errorf("status %+v, %v", st, err)
	}
	for name, want := range map[string][]byte{"vm1/vda@" + r.Point: content, "vm1:/vda.raw@" + r.Point: content, "vm1:/notes.xml@latest": notes} {
		if !bytes.Equal(w.read(name), want) {
			t.Errorf("export %s differs", name)
		}
	}
	for _, name := range []string{"vm1:/notes.xml", "vm1:/notes.xml@", "vm1:/nosuch@latest", "vm1:/@latest", "vm2:/notes.xml@latest", "vm1:/../notes.xml@latest", ":/notes.xml@latest", "vm1/vda:/notes.xml@latest"} {
		if _, err := w.dial(name); !errors.Is(err, nbdclient.ErrRefused) {
			t.Errorf("export %s: %v", name, err)
		}
	}
	p, err := w.client.Point(t.Context(), "vm1@latest")
	if err != nil || !reflect.DeepEqual(p.Files, r.Files) {
		t.Errorf("point %+v, %v", p, err)
	}

	c = w.enter(w.drop("vm1"))
	for name, want := range map[string][]byte{"vda.raw": content, "files/vda.raw": content, "files/notes.xml": notes} {
		if !bytes.Equal(get(t, c, "/restore/vm1/"+r.Point+"/"+name), want) {
			t.Errorf("%s differs", name)
		}
	}
	if _, err := c.Stat("/vda.raw"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a new job sees an old one's file: %v", err)
	}
	_, text, _ := w.ask("GET", "/metrics", "", "", nil)
	for _, line := range []string{`strongroom_sftp_logins_total{method="key"} 2`, `strongroom_file_imports_total{result="done"} 1`, `strongroom_sftp_connections{state="open"} 1`} {
		if !strings.Contains(text, line) {
			t.Errorf("no %s", line)
		}
	}
}

// Nobody gets in with another's secret or none, and the log says who tried.
func TestWrongLogins(t *testing.T) {
	t.Parallel()
	w := start(t, withSFTP())
	a, b := w.drop("vm1"), w.drop("vm2")
	stranger, _ := newUserKey(t)
	for name, x := range map[string]struct {
		user string
		how  ssh.AuthMethod
	}{
		"a stranger's key":   {a.SFTP.User, ssh.PublicKeys(stranger)},
		"another job's key":  {a.SFTP.User, keyOf(t, b)},
		"another's password": {a.SFTP.User, ssh.Password(b.SFTP.Password)},
		"no password":        {a.SFTP.User, ssh.Password("")},
		"no such job":        {"job-0123456789abcdef", keyOf(t, a)},
		"no such user":       {"root", ssh.Password("root")},
		"the session alone":  {a.Session, keyOf(t, a)},
	} {
		if _, err := w.login(x.user, x.how); err == nil {
			t.Errorf("%s lets in", name)
		}
	}
	w.mustLogin(a.SFTP.User, ssh.Password(a.SFTP.Password))
	eventually(t, "the log tells", func() bool {
		l := w.log.String()
		return strings.Contains(l, "SFTP login failed") && strings.Contains(l, "user=root") && strings.Contains(l, "SFTP client logged in")
	})
}

// However a session ends, its login ends with it, and its file on disk.
func TestLoginEndsWithSession(t *testing.T) {
	t.Parallel()
	w := start(t, withSFTP())
	for name, end := range map[string]func(api.Backup){
		"abort":  func(b api.Backup) { w.client.Abort(t.Context(), b.Session) },
		"expiry": func(b api.Backup) { w.expire(b.Expires.Add(time.Second)) },
	} {
		b := w.drop("vm1")
		c := w.enter(b)
		f, err := c.Create("/vda.raw")
		if err != nil {
			t.Fatal(err)
		}
		end(b)
		eventually(t, name+" disconnects", func() bool { _, err := f.WriteAt([]byte("x"), 0); return err != nil })
		w.locked(b)
		if _, err := os.Stat(w.logins.path(b.Session)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s leaves the login's file: %v", name, err)
		}
	}
}

// A commit that is refused leaves the session, its login and its files.
func TestRefusedCommitGoesOn(t *testing.T) {
	t.Parallel()
	w := start(t, withSFTP())
	b := w.drop("vm1")
	c := w.enter(b)
	put(t, c, "/vda.qcow2", []byte("this is no qcow2"))
	_, err := w.client.Commit(t.Context(), b.Session)
	wantRefusal(t, err, http.StatusConflict, "vda.qcow2")
	put(t, c, "/vdb.raw.part", random(1, mib))
	if err := c.Remove("/vda.qcow2"); err != nil {
		t.Fatal(err)
	}
	_, err = w.client.Commit(t.Context(), b.Session)
	wantRefusal(t, err, http.StatusConflict, "vdb.raw.part")
	if err := c.Rename("/vdb.raw.part", "/vdb.raw"); err != nil {
		t.Fatal(err)
	}
	if r := w.commit(b.Session); len(r.Images) != 1 || r.Images[0].Disk != "vdb" {
		t.Errorf("receipt %+v", r)
	}
}

// Whoever asks for a commit while it is under way gets the same receipt; a server
// that is ending begins none.
func TestCommitsTogether(t *testing.T) {
	t.Parallel()
	w := start(t, withSFTP())
	b := w.drop("vm1")
	put(t, w.enter(b), "/vda.raw", random(4, 8*mib))
	w.publishing.Lock()
	_, err := w.client.Commit(t.Context(), b.Session)
	w.publishing.Unlock()
	wantRefusal(t, err, http.StatusServiceUnavailable, "ending")
	type answer struct {
		r   api.Receipt
		err error
	}
	answers := make(chan answer)
	for range 4 {
		go func() {
			r, err := w.client.Commit(t.Context(), b.Session)
			answers <- answer{r, err}
		}()
	}
	first := <-answers
	for range 3 {
		if a := <-answers; a.err != nil || first.err != nil || !reflect.DeepEqual(a, first) {
			t.Errorf("%+v\n%+v", first, a)
		}
	}
}

// The login, and what was uploaded, outlive the server.
func TestSFTPRestart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	w := startOn(t, dir, withSFTP())
	key := w.sftpInfo.HostKey
	b, ended := w.drop("vm1"), w.drop("vm2")
	content := random(2, 2*mib)
	put(t, w.enter(b), "/vda.raw", content[:mib])
	if _, err := w.client.Abort(t.Context(), ended.Session); err != nil {
		t.Fatal(err)
	}
	w.shut()
	if st, err := os.Stat(filepath.Join(dir, hostKeyName)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("host key: %v, %v", st, err)
	}
	tokens := w.tokens
	w = startOn(t, dir, withSFTP())
	w.tokens = tokens
	if w.sftpInfo.HostKey != key {
		t.Error("the host key changed")
	}
	w.locked(ended)
	c := w.enter(b)
	f, err := c.OpenFile("/vda.raw", os.O_WRONLY)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(content[mib:], mib); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	w.commit(b.Session)
	if !bytes.Equal(w.read("vm1/vda"), content) {
		t.Error("the image differs")
	}
}

// Users of the configuration: keys, passwords, certificates; what each may.
func TestStandingUsers(t *testing.T) {
	t.Parallel()
	hash, err := bcrypt.GenerateFromPassword([]byte("correct horse battery"), bcryptCostMin)
	if err != nil {
		t.Fatal(err)
	}
	ca, caLine := newUserKey(t)
	one, oneLine := newUserKey(t)
	holder, _ := newUserKey(t)
	w := start(t, withSFTP(
		SFTPUser{Name: "fleet", VMs: []string{"web*"}, Keys: []string{oneLine}, Principals: []string{"backup"}, Restore: true},
		SFTPUser{Name: "tool", VM: "tool1", PasswordHash: string(hash), CommitOnRename: true},
		SFTPUser{Name: "reader", VM: "tool1", Keys: []string{oneLine}, Restore: true, ReadOnly: true},
	), func(o *Options) { o.Config.SFTP.TrustedUserCA = TextList{caLine} })

	// commit-on-rename
	content := random(3, mib)
	tool := w.mustLogin("tool", ssh.Password("correct horse battery"))
	put(t, tool, "/vda.raw.part", content)
	if err := tool.PosixRename("/vda.raw.part", "/vda.raw"); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(w.read("tool1/vda"), content) {
		t.Error("the rename published something else")
	}
	if list, err := tool.ReadDir("/"); err != nil || len(list) != 0 {
		t.Errorf("after the commit the folder has %v, %v", list, err)
	}
	if _, err := tool.Stat("/restore"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without the right to restore: %v", err)
	}

	reader := w.mustLogin("reader", ssh.PublicKeys(one))
	if !bytes.Equal(get(t, reader, "/restore/tool1/latest/vda.raw"), content) {
		t.Error("the reader reads something else")
	}
	if _, err := reader.Create("/x"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("the reader writes: %v", err)
	}

	// a pattern of VMs; the session is shared until it is committed by hand
	fleet := w.mustLogin("fleet", ssh.PublicKeys(one))
	put(t, fleet, "/web1/vda.raw", content)
	if _, err := fleet.Create("/db1/vda.raw"); err == nil {
		t.Error("fleet writes to db1")
	}
	list, err := w.client.Backups(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range list {
		if b.State != "open" {
			continue
		}
		if b.VM != "web1" || len(b.Files) != 1 || b.Labels["sftp-user"] != "fleet" || b.SFTP != nil {
			t.Errorf("session %+v", b)
		}
		if r := w.commit(b.Session); len(r.Images) != 1 {
			t.Errorf("receipt %+v", r)
		}
	}
	if !bytes.Equal(get(t, fleet, "/restore/web1/latest/vda.raw"), content) {
		t.Error("the fleet's point differs")
	}

	// certificates
	sign := func(principals ...string) ssh.AuthMethod {
		cert := &ssh.Certificate{Key: holder.PublicKey(), CertType: ssh.UserCert, KeyId: "hv7", ValidPrincipals: principals, ValidBefore: uint64(time.Now().Add(time.Hour).Unix())}
		if err := cert.SignCert(rand.Reader, ca); err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.NewCertSigner(cert, holder)
		if err != nil {
			t.Fatal(err)
		}
		return ssh.PublicKeys(signer)
	}
	w.mustLogin("fleet", sign("other", "backup"))
	for name, x := range map[string]struct {
		user string
		how  ssh.AuthMethod
	}{
		"another principal": {"fleet", sign("fleet")}, "no principal": {"fleet", sign()}, "a user without principals": {"tool", sign("tool")},
		"the bare key": {"fleet", ssh.PublicKeys(holder)}, "a user without a password": {"fleet", ssh.Password("correct horse battery")},
		"a wrong password": {"tool", ssh.Password("correct horse batterie")},
	} {
		if _, err := w.login(x.user, x.how); err == nil {
			t.Errorf("%s lets in", name)
		}
	}
	if strings.Contains(w.log.String(), "correct horse") || strings.Contains(w.log.String(), string(hash)) {
		t.Error("the log tells a password")
	}
}

// The host key that the configuration names must exist and be the owner's.
func TestHostKeys(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	fails := func(word string) {
		t.Helper()
		c := testConfig(filepath.Join(dir, "data"))
		c.SFTP.Listen, c.SFTP.HostKey = "127.0.0.1:0", path
		if s, err := Open(Options{Config: c}); err == nil || !strings.Contains(err.Error(), word) || !strings.Contains(err.Error(), "sftp.host-key") {
			t.Errorf("%v, %v; want %q", s, err, word)
		}
		if err := c.CheckFiles(); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("config check: %v; want %q", err, word)
		}
	}
	fails("ssh-keygen")
	os.WriteFile(path, []byte("nonsense"), 0o600)
	fails("key")
	os.Chmod(path, 0o644)
	fails("0600")
}

// An address that stands for all of the host's is told as the host's name.
func TestAdvertisedSFTP(t *testing.T) {
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	key, _ := newUserKey(t)
	for _, x := range []struct{ advertise, listening, address, known string }{
		{"", "127.0.0.1:2022", "127.0.0.1:2022", "[127.0.0.1]:2022 ssh-ed25519 "},
		{"", "[::]:2022", name + ":2022", "[" + name + "]:2022 ssh-ed25519 "},
		{"backup.example:22", "0.0.0.0:2022", "backup.example:22", "backup.example ssh-ed25519 "},
		{"[2001:db8::1]:2022", "[::1]:1", "[2001:db8::1]:2022", "[2001:db8::1]:2022 ssh-ed25519 "},
	} {
		if i := sftpInfo(key.PublicKey(), x.advertise, x.listening); i.Address != x.address || !strings.HasPrefix(i.KnownHosts, x.known) {
			t.Errorf("%+v: %+v", x, i)
		}
	}
}

func TestPasswordsAbroadAreWarnedOf(t *testing.T) {
	c := NewConfig()
	c.SFTP.Users = SFTPUsers{{Name: "a", PasswordHash: testHash}, {Name: "b"}}
	for listen, want := range map[string]int{None: 0, "127.0.0.1:1": 0, "0.0.0.0:1": 1, "backup.example:1": 1} {
		if c.SFTP.Listen = listen; len(c.passwordsAbroad()) != want {
			t.Errorf("%s: %v", listen, c.passwordsAbroad())
		}
	}
}
