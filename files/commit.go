package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/strongroom-backup/strongroom/volume"
)

// CommitOptions go with a commit. How files become images is what the session
// was started with and what manifest.json says.
type CommitOptions struct {
	// Progress is called as images are made, with bytes of disks; nil: nobody
	// listens. It must return soon and may be called from several goroutines.
	Progress func(done, total int64)
}

// Commit makes a recovery point of a session: its files, and the disk images
// among them as images of the VM's disks. Nobody can change the folder
// meanwhile. When it fails the session goes on and its folder is as before,
// unless the message says otherwise. Of a session that was not started for
// files, and of one that was committed, it is volume's Commit.
func (s *Service) Commit(ctx context.Context, session string, o CommitOptions) (volume.Receipt, error) {
	st, err := s.o.Volumes.Status(session)
	if err != nil {
		return volume.Receipt{}, err
	}
	if !st.KeepsFiles || st.State != volume.Open {
		return s.o.Volumes.Commit(session)
	}
	f, err := s.folderOf(session)
	if err != nil {
		return volume.Receipt{}, err
	}
	f.verb.Lock()
	defer f.verb.Unlock()
	r, err := s.commit(ctx, f, &st, o)
	if err != nil {
		s.stats.CommitErrors.Add(1)
		return r, err
	}
	s.stats.Commits.Add(1)
	return r, nil
}

// commit runs with the folder's verb held.
func (s *Service) commit(ctx context.Context, f *folder, st *volume.Status, o CommitOptions) (volume.Receipt, error) {
	im := &importer{s: s, vm: f.vm, session: f.session, defaults: st.Import, progress: o.Progress}
	if err := s.prepare(ctx, f, im); err != nil {
		return volume.Receipt{}, s.thaw(f, im.added, fmt.Errorf("commit backup %s of VM %s: %w", f.session, f.vm, err))
	}
	r, err := s.o.Volumes.Commit(f.session)
	if err != nil {
		return volume.Receipt{}, s.thaw(f, im.added, err)
	}
	s.drop(f, f.session, s.why(f, f.session))
	return r, nil
}

// prepare makes the session what is to be committed.
func (s *Service) prepare(ctx context.Context, f *folder, im *importer) error {
	names, err := f.freeze(fmt.Errorf("%w: the backup of VM %s is being committed", fs.ErrPermission, f.vm))
	if err != nil {
		return err
	}
	list, err := findSources(names, im.defaults.Mode)
	if err != nil {
		return err
	}
	if err := im.run(ctx, list); err != nil {
		s.stats.ImportErrors.Add(1)
		return err
	}
	return s.dropHidden(f, names)
}

// freeze lets nothing change the folder any more, and returns its files once all
// that was written to them is with the volume.
func (f *folder) freeze(why error) (map[string]*node, error) {
	f.frozen.Store(&why)
	f.mu.Lock() // who is changing a name has done so
	names := maps.Clone(f.names)
	f.mu.Unlock()
	if err := f.over(); err != nil {
		return nil, err
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if err := names[name].finish(); err != nil {
			errs = append(errs, fmt.Errorf("file %s: %w", name, err))
		}
	}
	return names, errors.Join(errs...)
}

// thaw puts things back after a commit that failed: the disks added go, and the
// folder can be changed again.
func (s *Service) thaw(f *folder, added []string, cause error) error {
	st, err := s.o.Volumes.Status(f.session)
	if err == nil && st.State == volume.Committing { // nobody knows yet: it may be asked again, and nothing else
		why := fmt.Errorf("%w: whether the backup of VM %s was committed is not known yet", fs.ErrPermission, f.vm)
		f.frozen.Store(&why)
		return cause
	}
	errs := []error{cause}
	if err == nil && st.State == volume.Open {
		for _, disk := range added {
			if err := s.o.Volumes.DropDisk(f.session, disk); err != nil {
				errs = append(errs, fmt.Errorf("take disk %s back out of the backup: %w", disk, err))
			}
		}
	}
	f.frozen.Store(nil) // the caller holds verb, so Close cannot have frozen it
	return errors.Join(errs...)
}

// dropHidden removes what sshfs keeps of files that were removed while open.
func (s *Service) dropHidden(f *folder, names map[string]*node) error {
	for name := range names {
		if !strings.HasPrefix(base(name), hiddenPrefix) {
			continue
		}
		if err := s.o.Volumes.RemoveFile(f.session, name); err != nil {
			return err
		}
		f.mu.Lock()
		err := f.unlink(name)
		f.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// commitRenamed commits a user's session when the rename of X.part to X says
// that a disk's image is complete. When it cannot be, X.part has its name back.
func (s *Service) commitRenamed(user string, f *folder, from, to, conn string) error {
	r, err := s.Commit(s.ctx, f.session, CommitOptions{})
	if err != nil {
		if e := s.o.Events.CommitFailed; e != nil {
			e(f.session, f.vm, user, err)
		}
		return errors.Join(err, f.rename(to, from, conn, false))
	}
	if e := s.o.Events.Committed; e != nil {
		e(user, r)
	}
	return nil
}
