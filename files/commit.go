package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/strongroom-backup/strongroom/volume"
)

// CommitOptions go with a commit. How files become images is what the session
// was started with and what manifest.json says.
type CommitOptions struct {
	// Progress is called as images are made, with bytes of disks; nil: nobody
	// listens. It must return soon and may be called from several goroutines.
	Progress func(done, total int64)

	atOnce bool // do not wait for files to be closed: nobody could
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
	if err := s.prepare(ctx, f, im, o.atOnce); err != nil {
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
func (s *Service) prepare(ctx context.Context, f *folder, im *importer, atOnce bool) error {
	grace := closeGrace
	if atOnce {
		grace = 0
	}
	why := fmt.Errorf("%w: the backup of VM %s is being committed", fs.ErrPermission, f.vm)
	if err := f.quiet(ctx, grace, why); err != nil {
		return err
	}
	names, err := f.freeze(why)
	if err != nil {
		return err
	}
	if err := finished(names); err != nil {
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

// quiet freezes the folder when nobody has a file open for writing. It waits so
// long for that: sshfs closes a file after the program's close has returned.
func (f *folder) quiet(ctx context.Context, grace time.Duration, why error) error {
	late := time.NewTimer(grace)
	defer late.Stop()
	for {
		f.mu.Lock()
		name, conn := f.beingWritten()
		if name == "" {
			f.frozen.Store(&why)
		}
		f.mu.Unlock()
		if name == "" {
			return nil
		}
		select {
		case <-f.closed:
		case <-late.C:
			return fmt.Errorf("%w: file %s is still open for writing, on connection %s; close it (QEMU: blockdev-del), and commit again",
				volume.ErrUnfinished, name, conn)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// beingWritten names a file that somebody has open for writing, and his
// connection. The caller holds mu.
func (f *folder) beingWritten() (name, conn string) {
	for name, n := range f.names {
		if n.writers > 0 && !isHidden(name) {
			return name, n.writer
		}
	}
	return "", ""
}

// finished refuses files that may lack what was to be written to them.
func finished(names map[string]*node) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if isHidden(name) {
			continue
		}
		if err := names[name].unfinished(); err != nil {
			errs = append(errs, fmt.Errorf("%w: file %s: %w", volume.ErrUnfinished, name, err))
		}
	}
	return errors.Join(errs...)
}

// isHidden tells what sshfs calls a file that was removed while open.
func isHidden(name string) bool { return strings.HasPrefix(base(name), hiddenPrefix) }

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
		if !isHidden(name) {
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
	// The connection waits for the rename, and could close nothing meanwhile.
	r, err := s.Commit(s.ctx, f.session, CommitOptions{atOnce: true})
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
