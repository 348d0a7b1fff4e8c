package offline

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/identity"
	"github.com/strongroom-backup/strongroom/internal/overlayfs"
	"github.com/strongroom-backup/strongroom/tier"
)

const (
	tierName   = "tier0" // in a data directory
	metaName   = "meta"  // in a tier
	lockName   = "LOCK"
	markerName = "TIER"
	// catalogName is a directory that is made on the overlay only.
	catalogName = ".strongroom-offline-catalog"
)

// Options say how a data directory is read.
type Options struct {
	// FS holds it; nil is the operating system's.
	FS vfs.FS
	// Scratch is a directory for what is made from the metadata log, removed
	// by Close; "" keeps it in memory, which takes about as much as the log.
	Scratch string
}

// Store is a data directory opened for reading.
type Store struct {
	id      identity.Identity
	holder  string
	scratch string
	cat     *catalog.Catalog
	blocks  *dedup.Reader
}

// Open reads a data directory's points. dir may also be a tier alone, the
// directory with the packs. Nothing in it is changed, by Open or by anything
// that follows.
func Open(dir string, o Options) (*Store, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	s := &Store{}
	if err := s.open(dir, o); err != nil {
		return nil, errors.Join(fmt.Errorf("open data directory %s for reading: %w", dir, err), s.Close())
	}
	return s, nil
}

func (s *Store) open(dir string, o Options) (err error) {
	tierDir := o.FS.PathJoin(dir, tierName)
	if _, err := o.FS.Stat(o.FS.PathJoin(dir, markerName)); err == nil {
		tierDir = dir
	}
	if s.id, err = identify(o.FS, dir, tierDir); err != nil {
		return err
	}
	meta := o.FS.PathJoin(tierDir, metaName)
	if _, err := o.FS.Stat(meta); err != nil {
		return fmt.Errorf("it has no metadata log: nothing was ever committed, or %s is missing: %w", meta, err)
	}
	above, root := vfs.FS(vfs.NewMem()), ""
	if o.Scratch != "" {
		if s.scratch, err = os.MkdirTemp(o.Scratch, "strongroom-offline-"); err != nil {
			return err
		}
		above, root = vfs.Default, s.scratch
	}
	over := overlayfs.New(o.FS, above, root)
	if o.FS == vfs.Default {
		s.holder = lockHolder(o.FS.PathJoin(dir, lockName))
	}
	if err := s.openBlocks(over, tierDir); err != nil {
		return err
	}
	return s.openCatalog(over, dir, meta)
}

// identify reads the store's identity, or its copy where that is not to be had.
func identify(vfsys vfs.FS, dirs ...string) (id identity.Identity, err error) {
	var errs []error
	for _, dir := range dirs {
		id, err = identity.Read(vfsys, vfsys.PathJoin(dir, identity.FileName))
		if err == nil || errors.Is(err, identity.ErrNewer) {
			return id, err
		}
		errs = append(errs, err)
	}
	err = errors.Join(errs...)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w; is it a data directory, and is its disk mounted? Without the key in %s nothing can be read",
			err, identity.FileName)
	}
	return id, err
}

func (s *Store) openBlocks(over vfs.FS, tierDir string) error {
	t, err := tier.OpenDir(over, tierDir, s.id.Store)
	if err != nil {
		return err
	}
	s.blocks, err = dedup.OpenReader(dedup.ReaderOptions{Tier: t, Key: s.id.Key, StoreID: s.id.Store, Domain: s.id.Domain})
	return err
}

func (s *Store) openCatalog(over vfs.FS, dir, meta string) (err error) {
	database := over.PathJoin(dir, catalogName)
	if err := over.RemoveAll(database); err != nil { // hides what may be there
		return err
	}
	s.cat, err = catalog.Open(catalog.Options{FS: over, Dir: database, MetaDir: meta,
		StoreID: s.id.Store, Domain: s.id.Domain, RootHash: s.blocks.RootHash})
	return err
}

// Holder says who has the directory open, "" when nobody has or it cannot be
// told.
func (s *Store) Holder() string { return s.holder }

// StoreID is the store's id, 32 hex digits.
func (s *Store) StoreID() string { return s.id.StoreID }

// Close lets go of everything and removes what was put into Options.Scratch.
func (s *Store) Close() error {
	var errs []error
	if s.cat != nil {
		errs = append(errs, s.cat.Close())
	}
	if s.blocks != nil {
		errs = append(errs, s.blocks.Close())
	}
	if s.scratch != "" {
		errs = append(errs, os.RemoveAll(s.scratch))
	}
	return errors.Join(errs...)
}
