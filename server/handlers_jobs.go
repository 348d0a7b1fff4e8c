package server

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/strongroom-backup/strongroom/maintenance"
	"github.com/strongroom-backup/strongroom/server/api"
)

func (s *Server) getJobs(http.ResponseWriter, *http.Request) (any, error) {
	list := []api.Job{}
	for _, j := range s.jobs.list() {
		list = append(list, job(j))
	}
	return list, nil
}

func (s *Server) getJob(w http.ResponseWriter, r *http.Request) (any, error) {
	wait := 0
	if text := r.URL.Query().Get("wait"); text != "" {
		var err error
		if wait, err = strconv.Atoi(text); err != nil || wait < 0 || wait > jobWaitMax {
			return nil, badRequest("wait=%.40q: want 0 to %d seconds", text, jobWaitMax)
		}
	}
	j, err := s.jobs.await(r.Context(), r.PathValue("id"), time.Duration(wait)*time.Second)
	if err != nil {
		return nil, err
	}
	return job(j), nil
}

func (s *Server) deleteJob(_ http.ResponseWriter, r *http.Request) (any, error) {
	id := r.PathValue("id")
	if s.upkeep.Cancel(id) {
		s.log.Info("job is being cancelled", keyJob, id)
	}
	j, err := s.jobs.find(id)
	if err != nil {
		return nil, err
	}
	return job(j), nil
}

// startJob answers with the job that run is.
func (s *Server) startJob(kind maintenance.Kind, run func(context.Context) error) (any, error) {
	j, err := s.jobs.start(s.ctx, kind, run)
	if err != nil {
		return nil, err
	}
	return job(j), nil
}
