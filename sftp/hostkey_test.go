package sftp_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/crypto/ssh"

	"github.com/strongroom-backup/strongroom/sftp"
)

func TestHostKeyIsMadeOnceAndDurable(t *testing.T) {
	mem := vfs.NewCrashableMem()
	first, err := sftp.LoadOrCreateHostKey(mem, "key")
	if err != nil {
		t.Fatal(err)
	}
	after := mem.CrashClone(vfs.CrashCloneCfg{RNG: mathrand.New(mathrand.NewPCG(1, 1))})
	again, err := sftp.LoadOrCreateHostKey(after, "key")
	if err != nil || !bytes.Equal(first.PublicKey().Marshal(), again.PublicKey().Marshal()) {
		t.Errorf("after a power cut there is another key (%v)", err)
	}
}

func TestHostKeyIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if _, err := sftp.LoadOrCreateHostKey(vfs.Default, path); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
		t.Errorf("the key's file: %v, %v", st.Mode(), err)
	}
	if out, err := run(t, "", "ssh-keygen", "-y", "-f", path); err != nil || !strings.HasPrefix(out, "ssh-ed25519 ") {
		t.Errorf("OpenSSH does not read it: %v %s", err, out)
	}
	if left, _ := filepath.Glob(path + "*"); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := sftp.LoadOrCreateHostKey(vfs.Default, path); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Errorf("a key others can read: %v", err)
	}
}

func TestHostKeyOfAnotherKind(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	for want, text := range map[string][]byte{"ecdsa": pem.EncodeToMemory(block), "no key": []byte("hello"), "larger": make([]byte, 1<<20)} {
		mem := vfs.NewMem()
		f, err := mem.Create("key", "test")
		if err != nil {
			t.Fatal(err)
		}
		if _, err = f.Write(bytes.Clone(text)); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if _, err := sftp.LoadOrCreateHostKey(mem, "key"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want something of %q", err, want)
		}
	}
}
