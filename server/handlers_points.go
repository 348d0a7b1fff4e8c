package server

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/internal/ids"
	"github.com/strongroom-backup/strongroom/server/api"
)

// resolve finds the point that the path's reference means. Only its whole id
// means one that is in the trash.
func (s *Server) resolve(r *http.Request) (catalog.Point, error) {
	text := r.PathValue("ref")
	ref, err := catalog.ParseRef(text)
	if err != nil {
		return catalog.Point{}, err
	}
	return s.resolveText(text, ref)
}

func (s *Server) resolveText(text string, ref catalog.Ref) (catalog.Point, error) {
	p, err := s.engines.cat.Resolve(ref)
	if errors.Is(err, catalog.ErrNotFound) && ids.IsID(text) {
		return s.engines.cat.Point(text)
	}
	return p, err
}

// pathID reads the path's point, which must be an id: what latest means may
// change between a look and the deed.
func pathID(r *http.Request) (string, error) {
	id := r.PathValue("ref")
	if !ids.IsID(id) {
		return "", &api.Error{Status: http.StatusBadRequest, Message: fmt.Sprintf("%.200q is not the id of a point", id),
			Hint: "look the reference up first"}
	}
	return id, nil
}

func (s *Server) getPoint(_ http.ResponseWriter, r *http.Request) (any, error) {
	p, err := s.resolve(r)
	if err != nil {
		return nil, err
	}
	return point(p), nil
}

func (s *Server) deletePoint(_ http.ResponseWriter, r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	now, err := queryBool(r, "now")
	if err != nil {
		return nil, err
	}
	d, err := s.upkeep.Delete(id, now)
	if err != nil {
		return nil, err
	}
	s.log.Info("point deleted", keyPoint, d.Point.ID, keyVM, d.Point.VM, "purge", d.Purge)
	return api.Removed{Point: d.Point.ID, VM: d.Point.VM, Purge: d.Purge.UTC().Truncate(time.Millisecond)}, nil
}

func (s *Server) postUndelete(_ http.ResponseWriter, r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	p, err := s.upkeep.Undelete(id)
	return s.changed("point undeleted", p, err)
}

func (s *Server) getTrash(http.ResponseWriter, *http.Request) (any, error) {
	points, err := s.upkeep.Trash()
	if err != nil {
		return nil, err
	}
	list := []api.Point{}
	for _, p := range points {
		list = append(list, point(p))
	}
	return list, nil
}

func (s *Server) postHold(_ http.ResponseWriter, r *http.Request) (any, error) {
	var q api.HoldRequest
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	if q.Reason == "" || len(q.Reason) > holdReasonMax {
		return nil, badRequest("reason: want 1 to %d bytes that say why the point is held", holdReasonMax)
	}
	at, err := s.resolve(r)
	if err != nil {
		return nil, err
	}
	p, err := s.upkeep.Hold(at.ID, q.Reason)
	return s.changed("point held", p, err, keyReason, q.Reason)
}

func (s *Server) deleteHold(_ http.ResponseWriter, r *http.Request) (any, error) {
	at, err := s.resolve(r)
	if err != nil {
		return nil, err
	}
	p, err := s.upkeep.Release(at.ID)
	return s.changed("point released", p, err)
}

func (s *Server) postLock(_ http.ResponseWriter, r *http.Request) (any, error) {
	var q api.LockRequest
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	if q.Until.IsZero() {
		return nil, badRequest("until: want the date until which the point is locked")
	}
	at, err := s.resolve(r)
	if err != nil {
		return nil, err
	}
	p, err := s.upkeep.Lock(at.ID, q.Until)
	return s.changed("point locked", p, err, "until", q.Until)
}

// changed logs a change of a point and answers with the point as it is now.
func (s *Server) changed(what string, p catalog.Point, err error, attrs ...any) (any, error) {
	if err != nil {
		return nil, err
	}
	s.log.Info(what, append([]any{keyPoint, p.ID, keyVM, p.VM}, attrs...)...)
	return point(p), nil
}

// badRequest is an error for nonsense that only this package can see.
func badRequest(format string, args ...any) error {
	return &api.Error{Status: http.StatusBadRequest, Message: fmt.Sprintf(format, args...), Hint: "see " + api.Base + "/openapi.yaml"}
}
