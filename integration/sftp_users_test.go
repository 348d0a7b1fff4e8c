package integration

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/strongroom-backup/strongroom/internal/sshfs"
	"github.com/strongroom-backup/strongroom/internal/testdisk"
	"github.com/strongroom-backup/strongroom/server/api"
)

// keyPair is a user's or an authority's key.
type keyPair struct {
	signer ssh.Signer
	pem    string
	line   string // as in an authorized_keys file
}

func newKeyPair(t *testing.T) keyPair {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	return keyPair{signer, string(pem.EncodeToMemory(block)), line}
}

// certify signs a user certificate for principals; it is valid from an hour ago
// for the given time.
func (k keyPair) certify(t *testing.T, user keyPair, valid time.Duration, principals ...string) []byte {
	t.Helper()
	from := time.Now().Add(-time.Hour)
	c := &ssh.Certificate{Key: user.signer.PublicKey(), CertType: ssh.UserCert, KeyId: "test", ValidPrincipals: principals,
		ValidAfter: uint64(from.Unix()), ValidBefore: uint64(from.Add(valid).Unix())}
	if err := c.SignCert(rand.Reader, k.signer); err != nil {
		t.Fatal(err)
	}
	return ssh.MarshalAuthorizedKey(c)
}

// standing is a scene with users in its configuration.
type standing struct {
	*scene
	keys map[string]keyPair
	ca   keyPair
}

const standingPassword = "correct horse battery"

func newStanding(t *testing.T) *standing {
	t.Helper()
	hash := exec.Command(binary, "sftp", "hash-password")
	hash.Stdin = strings.NewReader(standingPassword + "\n")
	hashed, err := hash.Output()
	if err != nil {
		t.Fatal(err)
	}
	st := &standing{keys: map[string]keyPair{}, ca: newKeyPair(t)}
	for _, name := range []string{"hv1", "fleet", "reader", "ops"} {
		st.keys[name] = newKeyPair(t)
	}
	users, err := json.Marshal([]map[string]any{
		{"name": "hv1", "vm": "web1", "keys": []string{st.keys["hv1"].line}, "restore": true, "commit-on-rename": true},
		{"name": "fleet", "vms": []string{"web-*", "db1"}, "keys": []string{st.keys["fleet"].line}, "quota": "16MiB"},
		{"name": "reader", "vms": []string{"*"}, "restore": true, "read-only": true, "keys": []string{st.keys["reader"].line}},
		{"name": "ops", "vm": "ops1", "principals": []string{"backup-ops"}},
		{"name": "tool", "vm": "tool1", "password-hash": strings.TrimSpace(string(hashed))},
	})
	if err != nil {
		t.Fatal(err)
	}
	authorities, err := json.Marshal([]string{st.ca.line})
	if err != nil {
		t.Fatal(err)
	}
	st.scene = newFileScene(t, "sftp.users="+string(users), "sftp.trusted-user-ca="+string(authorities))
	return st
}

// login is a user's, with the key of that name.
func (st *standing) login(user, key string) *sshfs.Client {
	st.Helper()
	info := st.srv.Info.SFTP
	if info == nil {
		st.Fatal("the server does not say where SFTP is")
	}
	l := sshfs.Login{User: user, PrivateKey: st.keys[key].pem, KnownHosts: info.KnownHosts, Address: info.Address, Path: "/"}
	if key == "" {
		l.Password = standingPassword
	}
	c, err := sshfs.NewClient(st.path("login-"+user+"-"+key), l)
	st.must(err)
	return c
}

func (st *standing) mount(c *sshfs.Client) string {
	st.Helper()
	dir, err := os.MkdirTemp(st.dir, "mnt-")
	st.must(err)
	m, err := c.Mount(st.ctx, dir, sshfs.Recommended...)
	st.must(err)
	st.Cleanup(func() {
		if err := m.Unmount(); err != nil {
			st.Error(err)
		}
	})
	return dir
}

// TestCommitOnRename is the whole life of a user who only knows files: upload,
// rename, and there is the point.
func TestCommitOnRename(t *testing.T) {
	t.Parallel()
	st := newStanding(t)
	dir := st.mount(st.login("hv1", "hv1"))
	final := filepath.Join(dir, "vda.qcow2")
	st.put(final+".part", []byte("QFI\xfb, but no more"))
	if err := os.Rename(final+".part", final); err == nil {
		t.Fatal("a broken image was committed")
	}
	if names := st.names(dir); !slices.Equal(names, []string{"restore", "vda.qcow2.part"}) {
		t.Errorf("after a commit that was refused: %v", names)
	}
	st.must(os.Remove(final + ".part"))
	disk := st.copyOf(base, "disk.raw")
	for round := range 3 {
		st.tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk.Path, final+".part")
		st.must(os.Rename(final+".part", final))
		if names := st.names(dir); !slices.Equal(names, []string{"restore"}) {
			t.Errorf("after the commit: %v", names)
		}
		if n := st.points("web1"); n != round+1 {
			t.Errorf("%d points after %d uploads", n, round+1)
		}
		st.must(testdisk.Equal(disk.Path, filepath.Join(dir, "restore", "web1", "latest", "vda.raw")))
		_, err := disk.Edit(round, 30)
		st.must(err)
	}
}

// TestUsersOfManyVMs: patterns, quotas, and one who only reads.
func TestUsersOfManyVMs(t *testing.T) {
	t.Parallel()
	st := newStanding(t)
	dir := st.mount(st.login("fleet", "fleet"))
	st.must(os.Mkdir(filepath.Join(dir, "web-7"), 0o700))
	if os.Mkdir(filepath.Join(dir, "mail1"), 0o700) == nil {
		t.Error("a folder of a VM that is not the user's was made")
	}
	st.must(testdisk.Copy(base.Files[0], filepath.Join(dir, "web-7", "note")), os.Truncate(filepath.Join(dir, "web-7", "note"), 1<<20))
	err := os.WriteFile(filepath.Join(dir, "db1", "vda.raw"), noise(1, 20<<20), 0o600)
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) && !errors.Is(err, syscall.EIO) {
		t.Errorf("20 MiB into a quota of 16: %v", err)
	}
	st.must(os.Remove(filepath.Join(dir, "db1", "vda.raw")))
	small := noise(2, 3<<20)
	st.put(filepath.Join(dir, "db1", "vda.raw"), small)
	var open []api.Backup
	st.must(st.srv.JSON(st.ctx, &open, "backup", "status"))
	i := slices.IndexFunc(open, func(b api.Backup) bool { return b.VM == "db1" && b.State == "open" })
	if i < 0 || open[i].Labels["sftp-user"] != "fleet" {
		t.Fatalf("open backups: %+v", open)
	}
	r, err := st.srv.Commit(st.ctx, open[i].Session)
	st.must(err)
	st.absent(filepath.Join(dir, "db1", "vda.raw"))

	reader := st.mount(st.login("reader", "reader"))
	st.sameFile(filepath.Join(reader, "restore", "db1", r.Point, "vda.raw"), small)
	if err := os.WriteFile(filepath.Join(reader, "db1", "x"), nil, 0o600); err == nil {
		t.Error("a user who only reads made a file")
	}
	st.absent(filepath.Join(dir, "restore"))
}

// TestCertificatesAndPasswords: who gets in, and who does not.
func TestCertificatesAndPasswords(t *testing.T) {
	t.Parallel()
	st := newStanding(t)
	cert := func(c *sshfs.Client, text []byte) *sshfs.Client {
		st.put(c.Key+"-cert.pub", text)
		return c
	}
	refused := func(why string, c *sshfs.Client) {
		t.Helper()
		if m, err := c.Mount(st.ctx, st.path("refused")); err == nil {
			t.Errorf("%s got in", why)
			st.must(m.Unmount())
		}
	}
	ops := st.keys["ops"]
	good := st.mount(cert(st.login("ops", "ops"), st.ca.certify(t, ops, 2*time.Hour, "backup-ops")))
	st.put(filepath.Join(good, "note"), []byte("by certificate"))
	byPassword := st.mount(st.login("tool", ""))
	st.put(filepath.Join(byPassword, "note"), []byte("by password"))
	st.sameFile(filepath.Join(byPassword, "note"), []byte("by password"))
	if _, err := os.Stat(filepath.Join(byPassword, "restore")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a user who may not read points: %v", err)
	}

	refused("a certificate that is over", cert(st.login("ops", "ops"), st.ca.certify(t, ops, time.Minute, "backup-ops")))
	refused("a certificate of another principal", cert(st.login("ops", "ops"), st.ca.certify(t, ops, 2*time.Hour, "web")))
	refused("a certificate of everybody", cert(st.login("ops", "ops"), st.ca.certify(t, ops, 2*time.Hour)))
	refused("a certificate of somebody else", cert(st.login("ops", "ops"), newKeyPair(t).certify(t, ops, 2*time.Hour, "backup-ops")))
	refused("a certificate's bare key", cert(st.login("ops", "ops"), nil))
	refused("another's key", st.login("hv1", "fleet"))
	refused("nobody", st.login("root", "hv1"))
	wrong := st.login("tool", "")
	wrong.Password = "correct horse batter"
	refused("a wrong password", wrong)
}
