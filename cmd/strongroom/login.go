package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/strongroom-backup/strongroom/server/api"
)

// hostsSuffix and the private key's path are the path of the host's line.
const hostsSuffix = ".known_hosts"

// keyFiles are where the login of a backup is written.
type keyFiles struct{ path string } // of the private key; empty: nowhere

// startBackup opens a backup. The files are made before: when they cannot be,
// nothing has begun. When the login cannot be written, the backup is aborted,
// because nobody could use it.
func startBackup(ctx context.Context, client *api.Client, r api.BackupRequest, keys *keyFiles) (api.Backup, error) {
	if err := keys.make(); err != nil {
		return api.Backup{}, err
	}
	b, err := client.StartBackup(ctx, r)
	if err != nil {
		return b, errors.Join(err, keys.remove())
	}
	if err := keys.write(b); err != nil {
		_, abortErr := client.Abort(ctx, b.Session)
		return b, errors.Join(fmt.Errorf("the backup is given up: %w", err), abortErr, keys.remove())
	}
	return b, nil
}

// make makes both files, empty. Neither may exist.
func (k *keyFiles) make() (err error) {
	if k.path == "" {
		return nil
	}
	if k.path, err = filepath.Abs(k.path); err != nil { // sshfs may run elsewhere
		return err
	}
	for i, path := range k.paths() {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			if i > 0 {
				err = errors.Join(err, os.Remove(k.path))
			}
			return &refusedError{fmt.Errorf("--key: %w", err)}
		}
	}
	return nil
}

func (k *keyFiles) paths() []string {
	if k.path == "" {
		return nil
	}
	return []string{k.path, k.path + hostsSuffix}
}

func (k *keyFiles) write(b api.Backup) error {
	if k.path == "" {
		return nil
	}
	if b.SFTP == nil || b.SFTP.PrivateKey == "" {
		return errors.New("the server told no key")
	}
	b.SFTP.SSHFS = b.SFTP.MountCommand(k.path, k.path+hostsSuffix, b.VM)
	return errors.Join(os.WriteFile(k.path, []byte(b.SFTP.PrivateKey), 0o600),
		os.WriteFile(k.path+hostsSuffix, []byte(b.SFTP.KnownHosts+"\n"), 0o600))
}

func (k *keyFiles) remove() error {
	var errs []error
	for _, path := range k.paths() {
		errs = append(errs, os.Remove(path))
	}
	return errors.Join(errs...)
}

// showLogin prints how to mount a backup.
func showLogin(w io.Writer, b api.Backup, keys *keyFiles) error {
	l := b.SFTP
	if l == nil {
		return nil
	}
	pairs := []string{"login", l.User + "@" + l.Address + ":" + l.Path}
	if keys.path == "" {
		pairs = append(pairs, "password", l.Password, "host key", l.HostKey)
	} else {
		pairs = append(pairs, "key", keys.path, "host key", keys.path+hostsSuffix)
	}
	if err := fields(w, pairs...); err != nil {
		return err
	}
	command := l.SSHFS
	if keys.path == "" {
		hosts := l.User + hostsSuffix
		command = fmt.Sprintf("echo '%s' > %s\n%s", l.KnownHosts, hosts, l.MountCommand("", hosts, b.VM))
	}
	_, err := fmt.Fprintf(w, "\n%s\n", command)
	return err
}
