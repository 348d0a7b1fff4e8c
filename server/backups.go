package server

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/files"
	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
	"github.com/strongroom-backup/strongroom/volume"
)

// Reasons that clients of a session's exports are disconnected.
var (
	errCommitting = errors.New("the backup is being committed")
	errAborting   = errors.New("the backup is being aborted")
	errExpired    = errors.New("the backup's time has passed")
)

// errEnding refuses what would begin too late.
var errEnding = &api.Error{Status: http.StatusServiceUnavailable, Message: "the server is ending", Hint: "ask again when it has started"}

// startBackup opens a session.
func (s *Server) startBackup(r api.BackupRequest) (api.Backup, error) {
	ttl := time.Duration(s.config.Backup.TTL)
	limit := s.config.Backup.MaxTTL
	if r.TTLSeconds != 0 {
		if r.TTLSeconds < 1 || r.TTLSeconds > int64(time.Duration(limit)/time.Second) {
			return api.Backup{}, fmt.Errorf("%w: ttl_seconds %d: want 1 to %d (backup.max-ttl is %v)", volume.ErrBadRequest,
				r.TTLSeconds, int64(time.Duration(limit)/time.Second), limit)
		}
		ttl = time.Duration(r.TTLSeconds) * time.Second
	}
	if r.SFTP && !s.config.SFTPOn() {
		return api.Backup{}, errSFTPOff
	}
	if err := s.checkSpace(); err != nil {
		return api.Backup{}, err
	}
	q := volume.StartRequest{
		VM: r.VM, Mode: r.Mode, Parent: r.Parent, ParentCheckpoint: r.ParentCheckpoint,
		Checkpoint: r.Checkpoint, Labels: r.Labels, TTL: ttl, Manual: r.Manual, Branch: r.Branch, Files: r.SFTP,
	}
	for _, d := range r.Disks {
		q.Disks = append(q.Disks, volume.DiskSpec{Name: d.Disk, Size: d.Size})
	}
	for _, b := range r.Blobs {
		q.Blobs = append(q.Blobs, catalog.Blob{Name: b.Name, Data: b.Data})
	}
	st, err := s.engines.vols.Start(q)
	if err != nil {
		return api.Backup{}, err
	}
	out := s.backup(st)
	if r.SFTP {
		if err := s.addLogin(&out); err != nil {
			return api.Backup{}, err
		}
	}
	s.log.Info("backup opened", keySession, st.Session, keyVM, st.VM, "disks", len(st.Disks), "files", r.SFTP, "expires", st.Expires)
	return out, nil
}

// checkSpace refuses new backups on a full store at once, before a client has
// sent the first byte of one that must fail.
func (s *Server) checkSpace() error {
	u, err := s.engines.tier.Usage()
	if err != nil {
		return nil // not known; writes are checked again
	}
	if reserve := uint64(s.config.Store.Reserve); u.Free <= reserve {
		return &api.Error{Status: http.StatusInsufficientStorage, Message: fmt.Sprintf("the store is full: %s are free, %v are held back (store.reserve)",
			units.Human(int64(u.Free)), s.config.Store.Reserve), Hint: "remove points, or give the data directory more space"}
	}
	return nil
}

// commitBackup takes leave of the session's clients and publishes it. Whoever
// asks again meanwhile waits for the same answer.
func (s *Server) commitBackup(id string) (api.Receipt, error) {
	r, err, _ := s.commits.Do(id, func() (any, error) { return s.commitOnce(id) })
	if err != nil {
		return api.Receipt{}, err
	}
	return r.(api.Receipt), nil
}

func (s *Server) commitOnce(id string) (api.Receipt, error) {
	if !s.publishing.TryRLock() {
		return api.Receipt{}, errEnding
	}
	defer s.publishing.RUnlock()
	release, err := s.leave(id, errCommitting)
	if err != nil {
		return api.Receipt{}, err
	}
	defer release()
	begun := time.Now()
	// Making images of files takes as long as it takes; only the server's end
	// interrupts it, so that a client that went away can ask again.
	defer s.importing.Delete(id)
	r, err := s.files.Commit(s.ctx, id, files.CommitOptions{Progress: func(done, total int64) {
		s.importing.Store(id, &api.Progress{Done: done, Total: total})
	}})
	if err != nil {
		s.log.Error("commit failed", keySession, id, keyError, err)
		if errors.Is(err, volume.ErrBadRequest) { // the files are, which the asking client need not have written
			err = &api.Error{Status: http.StatusConflict, Message: err.Error(), Hint: "the backup is still open: put its files right, and commit again"}
		}
		return api.Receipt{}, err
	}
	s.log.Info("point committed", append(committedAttrs(r, keySession, id), keyDuration, time.Since(begun).Round(time.Millisecond))...)
	return receipt(r), nil
}

// abortBackup takes leave of the session's clients and drops it.
func (s *Server) abortBackup(id string) (api.Backup, error) {
	release, err := s.leave(id, errAborting)
	if err != nil {
		return api.Backup{}, err
	}
	defer release()
	if err := s.engines.vols.Abort(id); err != nil {
		return api.Backup{}, err
	}
	st, err := s.engines.vols.Status(id)
	return s.backup(st), err
}

// leave disconnects the clients of a session, after what they have in flight is
// answered, and keeps them out until release is called.
func (s *Server) leave(id string, reason error) (release func(), err error) {
	st, err := s.backupStatus(id)
	if err != nil {
		return nil, err
	}
	return s.disconnect(tokensOf(st), reason), nil
}

// tokensOf are the names of a session's exports.
func tokensOf(st volume.Status) (tokens []string) {
	for _, d := range st.Disks {
		if d.Token != "" { // not of one that a file became
			tokens = append(tokens, d.Token)
		}
	}
	return tokens
}

// disconnect ends the connections to some exports, after what they have in flight
// is answered, and keeps clients out until release is called.
func (s *Server) disconnect(tokens []string, reason error) (release func()) {
	s.exports.fence(tokens, reason.Error())
	for _, t := range tokens {
		s.nbd.CloseExport(t, reason)
	}
	return func() { s.exports.unfence(tokens) }
}

// backupStatus is Status of a session that must be a backup.
func (s *Server) backupStatus(id string) (volume.Status, error) {
	st, err := s.engines.vols.Status(id)
	if err == nil && st.Clone {
		err = &api.Error{Status: http.StatusBadRequest, Message: id + " is a clone, not a backup", Hint: "see: strongroom clone show " + id}
	}
	return st, err
}

// expire ends the sessions whose time has passed.
func (s *Server) expire(now time.Time) {
	expired, err := s.engines.vols.Expire(now)
	if err != nil {
		s.log.Error("ending expired backups failed; it is tried again", keyError, err)
	}
	for _, id := range expired {
		if release, err := s.leave(id, errExpired); err == nil {
			release() // the session refuses them from now on
		}
	}
}

// backup describes a session to a client that may know its tokens.
func (s *Server) backup(st volume.Status) api.Backup {
	b := api.Backup{
		Session: st.Session, VM: st.VM, State: string(st.State), Reason: st.Reason, Point: st.Point,
		Started: st.Started, Expires: st.Expires, Labels: st.Labels, Disks: []api.BackupDisk{},
	}
	for _, f := range st.Files {
		b.Files = append(b.Files, backupFile(f))
	}
	if st.State == volume.Open {
		b.SFTP = s.jobLoginOf(st.Session, st.VM)
	}
	if p, ok := s.importing.Load(st.Session); ok {
		b.Importing = p.(*api.Progress)
	}
	for _, d := range st.Disks {
		out := api.BackupDisk{
			Disk: d.Disk, Mode: string(d.Mode), Parent: d.Parent, Size: d.Size,
			WrittenBytes: d.WrittenBytes, ZeroedBytes: d.ZeroedBytes, NewBytes: d.NewBytes, StoredBytes: d.StoredBytes,
		}
		if st.State == volume.Open && d.Token != "" {
			out.Export, out.URI, out.UnixURI = d.Token, s.tcpURI(d.Token), s.unixURI(d.Token)
		}
		b.Disks = append(b.Disks, out)
	}
	return b
}

func (s *Server) tcpURI(export string) string {
	if s.info.NBD.Address == "" {
		return ""
	}
	scheme := "nbd"
	if s.info.NBD.ForceTLS {
		scheme = "nbds"
	}
	return (&url.URL{Scheme: scheme, Host: s.info.NBD.Address, Path: "/" + export}).String()
}

func (s *Server) unixURI(export string) string {
	if s.info.NBD.Socket == "" {
		return ""
	}
	socket := (&url.URL{Path: s.info.NBD.Socket}).EscapedPath()
	return "nbd+unix:///" + url.PathEscape(export) + "?socket=" + socket
}
