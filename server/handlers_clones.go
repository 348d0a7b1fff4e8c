package server

import (
	"net/http"
	"strconv"

	"github.com/strongroom-backup/strongroom/server/api"
)

func (s *Server) postClone(_ http.ResponseWriter, r *http.Request) (any, error) {
	var q api.CloneRequest
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	return result(s.createClone(q))
}

func (s *Server) getClones(http.ResponseWriter, *http.Request) (any, error) { return s.clones(), nil }

func (s *Server) getClone(_ http.ResponseWriter, r *http.Request) (any, error) {
	st, err := s.cloneStatus(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return s.clone(st), nil
}

func (s *Server) postResume(_ http.ResponseWriter, r *http.Request) (any, error) {
	return result(s.resumeClone(r.PathValue("id")))
}

func (s *Server) postSeal(_ http.ResponseWriter, r *http.Request) (any, error) {
	force, err := queryBool(r, "force")
	if err != nil {
		return nil, err
	}
	return result(s.sealClone(r.Context(), r.PathValue("id"), force))
}

func (s *Server) deleteClone(_ http.ResponseWriter, r *http.Request) (any, error) {
	force, err := queryBool(r, "force")
	if err != nil {
		return nil, err
	}
	return result(s.discardClone(r.Context(), r.PathValue("id"), force))
}

// queryBool reads a parameter that is false when it is not there.
func queryBool(r *http.Request, name string) (bool, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return false, nil
	}
	v, err := strconv.ParseBool(text)
	if err != nil {
		return false, badRequest("%s=%.40q: want true or false", name, text)
	}
	return v, nil
}
