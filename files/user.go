package files

import (
	"fmt"
	"path"
	"slices"
	"syscall"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/internal/ids"
	"github.com/strongroom-backup/strongroom/sftp"
	"github.com/strongroom-backup/strongroom/volume"
)

// userLabel marks the sessions that standing users' files opened; its value is
// the user.
const userLabel = "sftp-user"

// User is a standing login, bound to one VM or to those of some names.
type User struct {
	Name string
	VM   string   // "": those of VMs
	VMs  []string // names, or patterns of path.Match
	// ReadOnly: he changes nothing. Restore: he may read the points of his VMs.
	ReadOnly, Restore bool
	// CommitOnRename: renaming X.part to X, a disk's image, commits the session.
	CommitOnRename bool
	Quota          int64 // bytes in files not committed; 0: none
}

// matcher says which VMs are a user's.
type matcher struct {
	user     string
	patterns []string
}

func (m *matcher) match(vm string) bool {
	return ids.IsName(vm) && vm != restoreName && slices.ContainsFunc(m.patterns, func(p string) bool {
		ok, err := path.Match(p, vm)
		return ok && err == nil
	})
}

// named reports whether a VM is there without a point, being named as it is.
func (m *matcher) named(vm string) bool { return slices.Contains(m.patterns, vm) }

// list returns the VMs that are bound by name and those that match and have points.
func (m *matcher) list(c *catalog.Catalog) (map[string]bool, error) {
	names := map[string]bool{}
	for _, p := range m.patterns {
		if m.match(p) {
			names[p] = true
		}
	}
	vms, err := c.VMs()
	for _, vm := range vms {
		if m.match(vm.Name) {
			names[vm.Name] = true
		}
	}
	return names, err
}

// JobTree is what the login of a backup session sees: its folder, and the points
// of its VM below /restore. conn names the connection, for the rule that one
// writes a file at a time.
func (s *Service) JobTree(session, conn string) (sftp.Tree, error) {
	st, err := s.o.Volumes.Status(session)
	if err != nil {
		return nil, err
	}
	if !st.KeepsFiles {
		return nil, fmt.Errorf("%w: session %s of VM %s was not started for files", volume.ErrBadRequest, session, st.VM)
	}
	f, err := s.folderOf(session)
	if err != nil {
		return nil, err
	}
	return &tree{
		s: s, conn: conn, vm: st.VM,
		restore: &restore{s: s, vms: matcher{patterns: []string{st.VM}}},
		folder:  func(string, bool) (*folder, error) { return f, nil },
	}, nil
}

// UserTree is what a standing user sees.
func (s *Service) UserTree(u User, conn string) (sftp.Tree, error) {
	t := &tree{s: s, conn: conn, vm: u.VM, vms: matcher{user: u.Name, patterns: u.VMs}, readOnly: u.ReadOnly}
	if u.VM != "" {
		if !ids.IsName(u.VM) {
			return nil, fmt.Errorf("%w: VM name %q of user %s", volume.ErrBadRequest, u.VM, u.Name)
		}
		t.vms.patterns = []string{u.VM}
	}
	if u.Restore {
		t.restore = &restore{s: s, vms: t.vms}
	}
	if err := s.adoptSessions(u.Name); err != nil {
		return nil, err
	}
	acct := s.account(u.Name)
	acct.limit(u.Quota)
	t.folder = func(vm string, make bool) (*folder, error) { return s.userFolder(u.Name, vm, acct, make) }
	if u.CommitOnRename && !u.ReadOnly {
		t.complete = func(f *folder, from, to string) error { return s.commitRenamed(u.Name, f, from, to, conn) }
	}
	return t, nil
}

// account is where a user's use is counted; nil for a job.
func (s *Service) account(user string) *account {
	if user == "" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.accounts[user]
	if a == nil {
		a = &account{user: user}
		s.accounts[user] = a
	}
	return a
}

// adoptSessions finds the folders of the sessions that a user's files opened
// before the server started.
func (s *Service) adoptSessions(user string) error {
	for _, st := range s.o.Volumes.Sessions() {
		if st.State != volume.Open || !st.KeepsFiles || st.Labels[userLabel] != user {
			continue
		}
		f, err := s.folderOf(st.Session)
		if err != nil {
			return err
		}
		k := userVM{user, st.VM}
		s.mu.Lock()
		if s.users[k] == nil && s.sessions[st.Session] == f {
			s.users[k] = f
		}
		s.mu.Unlock()
	}
	return nil
}

// userFolder returns a user's files of a VM. One that is new is remembered only
// when something will be made in it.
func (s *Service) userFolder(user, vm string, acct *account, make bool) (*folder, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := userVM{user, vm}
	if f := s.users[k]; f != nil && f.over() == nil {
		return f, nil
	}
	f := newFolder(s, vm, user, acct)
	f.start = func() (string, error) {
		st, err := s.o.Volumes.Start(volume.StartRequest{VM: vm, Files: true, Labels: map[string]string{userLabel: user}})
		if err != nil {
			return "", err
		}
		if e := s.o.Events.Started; e != nil {
			e(st.Session, vm, user)
		}
		return st.Session, nil
	}
	if make {
		if len(s.users) >= maxUserFolders {
			return nil, fmt.Errorf("%w: %d folders of VMs are in use", syscall.ENOSPC, maxUserFolders)
		}
		s.users[k] = f
	}
	return f, nil
}

// foldersOf lists the VMs that a user has a folder of.
func (s *Service) foldersOf(user string) (vms []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.users {
		if k.user == user {
			vms = append(vms, k.vm)
		}
	}
	return vms
}

// hasFolder reports whether a user's folder of a VM is remembered.
func (s *Service) hasFolder(user, vm string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.users[userVM{user, vm}]
	return f != nil && f.over() == nil
}

// hasPoints reports whether a VM has points.
func (s *Service) hasPoints(vm string) bool {
	_, ok, err := s.o.Catalog.Latest(vm, "")
	return ok && err == nil
}
