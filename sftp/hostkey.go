package sftp

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/strongroom-backup/strongroom/internal/atomicfile"
)

const keyCategory vfs.DiskWriteCategory = "strongroom-state"

// LoadOrCreateHostKey reads the ed25519 host key under path, in OpenSSH's own
// format, or makes one when there is no file. A key it has made is durable when
// it returns, because clients will insist on it. On a real disk the file is for
// its owner only from the start, and one that others may open is refused.
func LoadOrCreateHostKey(vfsys vfs.FS, path string) (ssh.Signer, error) {
	text, err := readKey(vfsys, path)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = makeKey(vfsys, path)
	}
	if err != nil {
		return nil, fmt.Errorf("SSH host key: %w", err)
	}
	key, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("SSH host key %s: %w", path, err)
	}
	if t := key.PublicKey().Type(); t != ssh.KeyAlgoED25519 {
		return nil, fmt.Errorf("SSH host key %s is a key of type %s; want %s (ssh-keygen -t ed25519)", path, t, ssh.KeyAlgoED25519)
	}
	return key, nil
}

func readKey(vfsys vfs.FS, path string) ([]byte, error) {
	f, err := vfsys.Open(path)
	if err != nil {
		return nil, err
	}
	err = ownersOnly(f, path)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return atomicfile.Read(vfsys, path, hostKeyMax)
}

// ownersOnly refuses a file of a real disk that others than its owner may open.
func ownersOnly(f vfs.File, path string) error {
	if f.Fd() == vfs.InvalidFd {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if st.Mode&0o077 != 0 {
		return fmt.Errorf("others than its owner may open %s (mode %04o); chmod it to 0600, or remove it to have a new one made", path, st.Mode&0o7777)
	}
	return nil
}

func makeKey(vfsys vfs.FS, path string) ([]byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "strongroom")
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(block)
	tmp := path + ".tmp"
	if err := writeSecret(vfsys, tmp, text); err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", tmp, err), vfsys.Remove(tmp))
	}
	if err := vfsys.Rename(tmp, path); err != nil {
		return nil, fmt.Errorf("rename %s: %w", tmp, err)
	}
	return text, atomicfile.SyncDir(vfsys, vfsys.PathDir(path))
}

// writeSecret is a durable file that nobody else may open, not even while it is
// empty.
func writeSecret(vfsys vfs.FS, path string, text []byte) error {
	f, err := vfsys.Create(path, keyCategory)
	if err != nil {
		return err
	}
	if f.Fd() != vfs.InvalidFd {
		err = unix.Fchmod(int(f.Fd()), 0o600)
	}
	if err == nil {
		_, err = f.Write(bytes.Clone(text)) // Write may scribble on its argument
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
