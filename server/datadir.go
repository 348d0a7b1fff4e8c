package server

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/internal/atomicfile"
	"github.com/strongroom-backup/strongroom/internal/identity"
)

const (
	identityName = identity.FileName
	// defaultDomain is the dedup domain of everything; others are for tenants
	// to come.
	defaultDomain = 1
	lockName      = "LOCK"
	tierName      = "tier0"
)

var (
	// ErrNewerFormat is a data directory that a later version of Strongroom
	// wrote. Nothing in it has been changed.
	ErrNewerFormat = identity.ErrNewer
	// ErrInUse is a data directory that another server has open.
	ErrInUse = errors.New("in use by another server")
)

// dataDir is an open data directory.
type dataDir struct {
	fs   vfs.FS
	path string
	id   identity.Identity
	lock io.Closer
	// hasFile and hasCopy say which of the identity's files were there.
	hasFile, hasCopy bool
}

func (d *dataDir) join(elem ...string) string {
	return d.fs.PathJoin(append([]string{d.path}, elem...)...)
}

// openDataDir takes the directory for this process and finds out who it is. A
// new one is given an identity; one of a newer format is left as it is. settle
// must follow once the tier is open.
func openDataDir(vfsys vfs.FS, path string, now time.Time) (*dataDir, error) {
	d := &dataDir{fs: vfsys, path: path}
	// Before anything is made or locked: a newer format may mean other rules.
	if _, err := d.read(identityName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := makeDirs(vfsys, d.join(tierName)); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	lock, err := vfsys.Lock(d.join(lockName))
	if err != nil {
		return nil, fmt.Errorf("data directory %s is %w (%v): stop that one, or give this one a directory of its own with --data", path, ErrInUse, err)
	}
	d.lock = lock
	if err := d.identify(now); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// makeDirs makes a directory and those missing above it, and syncs every
// directory that has a new name in it.
func makeDirs(vfsys vfs.FS, dir string) error {
	var changed []string
	for p := dir; ; p = vfsys.PathDir(p) {
		if _, err := vfsys.Stat(p); err == nil || p == vfsys.PathDir(p) {
			break
		}
		changed = append(changed, vfsys.PathDir(p))
	}
	if err := vfsys.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, p := range changed {
		if err := atomicfile.SyncDir(vfsys, p); err != nil {
			return err
		}
	}
	return nil
}

func (d *dataDir) close() error { return d.lock.Close() }

// identify finds who the directory is: from its file, from the copy beside the
// packs, or newly made.
//
// A first start writes the copy, then the tier, then the file; whatever a crash
// leaves of that is completed by the next start. A directory that has the file
// must have its tier too: when that is missing, its disk is.
func (d *dataDir) identify(now time.Time) error {
	id, err := d.read(identityName)
	twin, twinErr := d.read(d.copyName())
	for _, err := range []error{err, twinErr} {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	d.hasFile, d.hasCopy = err == nil, twinErr == nil
	switch {
	case d.hasFile && d.hasCopy && (id.StoreID != twin.StoreID || id.DomainKey != twin.DomainKey):
		return fmt.Errorf("%s and %s name different stores: put the directories that belong together back together",
			d.join(identityName), d.join(d.copyName()))
	case d.hasFile:
		d.id = id
		return nil
	case d.hasCopy:
		d.id = twin
		return nil
	}
	if err := d.mustBeNew(); err != nil {
		return err
	}
	d.id = newIdentity(now)
	return d.write(d.copyName())
}

// settle writes whichever of the two files was missing and returns its name.
func (d *dataDir) settle() (written string, err error) {
	switch {
	case !d.hasFile:
		return identityName, d.write(identityName)
	case !d.hasCopy:
		return d.copyName(), d.write(d.copyName())
	}
	return "", nil
}

func (d *dataDir) copyName() string { return d.fs.PathJoin(tierName, identityName) }

// mustBeNew refuses to make a store over what another may have left.
func (d *dataDir) mustBeNew() error {
	for _, name := range []string{d.fs.PathJoin(tierName, "packs"), d.fs.PathJoin(tierName, "meta"), "catalog", "sessions"} {
		if _, err := d.fs.Stat(d.join(name)); err == nil {
			return fmt.Errorf("data directory %s has %s, but no %s: bring that file back from a copy; without its key the data cannot be read",
				d.path, name, identityName)
		}
	}
	return nil
}

func newIdentity(now time.Time) identity.Identity {
	id := identity.Identity{Format: identity.Format, Created: now.UTC().Truncate(time.Second), Domain: defaultDomain}
	rand.Read(id.Store[:])
	rand.Read(id.Key[:])
	id.StoreID, id.DomainKey = hex.EncodeToString(id.Store[:]), hex.EncodeToString(id.Key[:])
	return id
}

func (d *dataDir) write(name string) error {
	text, err := json.MarshalIndent(d.id, "", "  ")
	if err != nil {
		return err
	}
	if err := atomicfile.Write(d.fs, d.join(name), append(text, '\n')); err != nil {
		return fmt.Errorf("write the identity of the store: %w", err)
	}
	if d.fs == vfs.Default {
		return os.Chmod(d.join(name), 0o600) // it holds a key
	}
	return nil
}

func (d *dataDir) read(name string) (identity.Identity, error) {
	return identity.Read(d.fs, d.join(name))
}

// bootID names this boot of the host, so that a session knows whether un-synced
// writes may be lost.
func bootID() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("tell this boot of the host from others: %w", err)
	}
	return string(text), nil
}
