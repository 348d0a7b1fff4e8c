package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/strongroom-backup/strongroom/nbd"
	"github.com/strongroom-backup/strongroom/server/api"
	"github.com/strongroom-backup/strongroom/volume"
)

// Reasons that clients of a clone's exports are disconnected or not let in.
var (
	errSealing    = errors.New("the clone is being sealed")
	errDiscarding = errors.New("the clone is being discarded")
	errResuming   = errors.New("the clone is being resumed, under other names")
)

// createClone makes writable disks over a point. A full store does not refuse
// it: to read them takes no space, and it may be the only copy there is.
func (s *Server) createClone(q api.CloneRequest) (api.Clone, error) {
	st, err := s.engines.vols.CreateClone(volume.CloneRequest{Ref: q.Ref, Disks: q.Disks, Labels: q.Labels})
	if err != nil {
		return api.Clone{}, cloneRefusal("", err)
	}
	s.engines.sessions.addClone(st.Session)
	s.log.Info("clone created", keyClone, st.Session, keyVM, st.VM, keyPoint, st.Base, "disks", len(st.Disks))
	return s.clone(st), nil
}

// clones lists those that have not ended.
func (s *Server) clones() []api.Clone {
	list := []api.Clone{}
	for _, st := range s.engines.vols.Clones() {
		if !hasEnded(st.State) {
			list = append(list, s.clone(st))
		}
	}
	return list
}

// cloneStatus is Status of a session that must be a clone.
func (s *Server) cloneStatus(id string) (volume.Status, error) {
	st, err := s.engines.vols.Status(id)
	switch {
	case err != nil:
		return st, cloneRefusal(id, err)
	case !st.Clone:
		return st, &api.Error{Status: http.StatusBadRequest, Message: id + " is a backup, not a clone", Hint: "see: strongroom backup status " + id}
	}
	return st, nil
}

// resumeClone opens a stale clone under new names. Nobody can be let in under the
// old ones, but who was before may not have gone away yet.
func (s *Server) resumeClone(id string) (out api.Clone, err error) {
	err = s.verb(id, func(st volume.Status) error {
		if st.State != volume.Stale {
			return &api.Error{Status: http.StatusGone, Message: fmt.Sprintf("clone %s of VM %s is %s; only a stale one is resumed", id, st.VM, cloneState(st.State)),
				Hint: "see: strongroom clone show " + id}
		}
		defer s.disconnect(tokensOf(st), errResuming)()
		if st, err = s.engines.vols.ResumeClone(id); err != nil {
			return err
		}
		s.log.Info("clone resumed as at its last flush, under new names", keyClone, id, keyVM, st.VM)
		out = s.clone(st)
		return nil
	})
	return out, err
}

// sealClone makes a clone a recovery point. Of one that is sealed it gives the
// same receipt again.
func (s *Server) sealClone(ctx context.Context, id string, force bool) (out api.Receipt, err error) {
	err = s.verb(id, func(st volume.Status) error {
		if st.State == volume.Aborted {
			return &api.Error{Status: http.StatusGone, Message: fmt.Sprintf("clone %s of VM %s was discarded", id, st.VM), Hint: "see: strongroom clone list"}
		}
		release, err := s.leaveClone(ctx, st, force, errSealing)
		if err != nil {
			return err
		}
		defer release()
		begun := time.Now()
		r, err := s.engines.vols.SealClone(id)
		if err != nil {
			s.log.Error("sealing a clone failed", keyClone, id, keyVM, st.VM, keyError, err)
			return err
		}
		if !hasEnded(st.State) {
			s.log.Info("clone sealed", append(committedAttrs(r, keyClone, id), keyDuration, time.Since(begun).Round(time.Millisecond))...)
		}
		out = receipt(r)
		return nil
	})
	return out, err
}

// discardClone drops a clone and all that was written to it.
func (s *Server) discardClone(ctx context.Context, id string, force bool) (out api.Clone, err error) {
	err = s.verb(id, func(st volume.Status) error {
		release, err := s.leaveClone(ctx, st, force, errDiscarding)
		if err != nil {
			return err
		}
		defer release()
		if err := s.engines.vols.DiscardClone(id); err != nil {
			return err
		}
		st, err = s.engines.vols.Status(id)
		out = s.clone(st)
		return err
	})
	return out, err
}

// verb does one thing to a clone at a time, and none while the engines close.
func (s *Server) verb(id string, do func(volume.Status) error) error {
	if _, err := s.cloneStatus(id); err != nil {
		return err // no lock for what anybody may invent
	}
	defer s.verbs.lock(id)()
	if !s.publishing.TryRLock() {
		return errEnding
	}
	defer s.publishing.RUnlock()
	st, err := s.cloneStatus(id)
	if err != nil {
		return err
	}
	return cloneRefusal(id, do(st))
}

// leaveClone keeps clients of a clone out until release is called. Those that are
// connected are disconnected with force, after what they have in flight is
// answered; else it refuses, and they never notice.
func (s *Server) leaveClone(ctx context.Context, st volume.Status, force bool, reason error) (release func(), err error) {
	if hasEnded(st.State) {
		return func() {}, nil
	}
	tokens := tokensOf(st)
	if force {
		return s.disconnect(tokens, reason), nil
	}
	s.exports.fence(tokens, reason.Error())
	release = func() { s.exports.unfence(tokens) }
	if err := s.refuseConnected(ctx, st); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// refuseConnected names the clients of a clone that is fenced, and that do not go
// within leaveGrace.
func (s *Server) refuseConnected(ctx context.Context, st volume.Status) error {
	for end := time.Now().Add(leaveGrace); ; time.Sleep(leavePoll) {
		who, err := s.connected(ctx, st)
		if err != nil || len(who) == 0 {
			return err
		}
		if time.Now().Before(end) {
			continue
		}
		return &api.Error{
			Status:  http.StatusConflict,
			Message: fmt.Sprintf("clone %s of VM %s is in use (%s)", st.Session, st.VM, strings.Join(who, "; ")),
			Hint:    "end the guest, or move its disks away, first; --force disconnects it, as if its disks were pulled out",
		}
	}
}

// connected names the clients of a clone that is fenced.
func (s *Server) connected(ctx context.Context, st volume.Status) (who []string, err error) {
	for _, d := range st.Disks {
		clients, err := s.nbd.SettledClients(ctx, d.Token)
		if err != nil {
			return nil, err
		}
		for _, c := range clients {
			who = append(who, "disk "+d.Disk+": "+clientText(c))
		}
	}
	return who, nil
}

func clientText(c nbd.Client) string {
	if c.PID != 0 {
		return fmt.Sprintf("%s, process %d", c.Peer, c.PID)
	}
	return c.Peer.String()
}

// hasEnded says of a state that nothing leads out of it.
func hasEnded(s volume.State) bool {
	return s == volume.Committed || s == volume.Aborted || s == volume.Expired
}

// cloneState is a state in the API's words.
func cloneState(s volume.State) string {
	switch s {
	case volume.Committing:
		return api.CloneSealing
	case volume.Committed:
		return api.CloneSealed
	case volume.Aborted:
		return api.CloneDiscarded
	}
	return string(s)
}

// clone describes a clone to a client that may know its tokens.
func (s *Server) clone(st volume.Status) api.Clone {
	out := api.Clone{
		Clone: st.Session, VM: st.VM, Base: st.Base, State: cloneState(st.State), Reason: st.Reason, Created: st.Started, Labels: st.Labels,
		Point: st.Point, Disks: []api.CloneDisk{},
	}
	for _, d := range st.Disks {
		disk := api.CloneDisk{
			Disk: d.Disk, Size: d.Size, WrittenBytes: d.WrittenBytes, ZeroedBytes: d.ZeroedBytes,
			NewBytes: d.NewBytes, StoredBytes: d.StoredBytes, JournalBytes: d.JournalBytes,
		}
		if st.State == volume.Open {
			disk.Export, disk.URI, disk.UnixURI = d.Token, s.tcpURI(d.Token), s.unixURI(d.Token)
		}
		for _, c := range s.nbd.Clients(d.Token) {
			disk.Clients = append(disk.Clients, api.CloneClient{Peer: c.Peer.String(), PID: c.PID, TLS: c.TLS})
		}
		out.Disks = append(out.Disks, disk)
	}
	return out
}

// cloneRefusal tells volume's errors in a clone's words: what helps a backup does
// not help here.
func cloneRefusal(id string, err error) error {
	for _, r := range []struct {
		err    error
		status int
		hint   string
	}{
		{volume.ErrNoSession, http.StatusNotFound, "see: strongroom clone list"},
		{volume.ErrStale, http.StatusConflict, "strongroom clone resume " + id},
		{volume.ErrDead, http.StatusGone, "nothing can be read from it any more: strongroom clone discard " + id},
		{volume.ErrClosed, http.StatusGone, "see: strongroom clone show " + id},
		{volume.ErrLimit, http.StatusTooManyRequests, "seal or discard clones that nobody needs, and commit or abort backups"},
	} {
		if !errors.Is(err, r.err) {
			continue
		}
		text := err.Error()
		switch r.err {
		case volume.ErrNoSession:
			text = fmt.Sprintf("no such clone: %.100q", id)
		case volume.ErrDead, volume.ErrClosed:
			text = strings.TrimPrefix(text, r.err.Error()+": ") // which speaks of backups
		}
		return &api.Error{Status: r.status, Message: text, Hint: r.hint}
	}
	return err
}
