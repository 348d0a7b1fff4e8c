package server

import (
	"context"
	"net/http"

	"github.com/strongroom-backup/strongroom/maintenance"
	"github.com/strongroom-backup/strongroom/server/api"
)

func pruneRequest(q api.PruneRequest, dry bool) (maintenance.PruneRequest, error) {
	r := maintenance.PruneRequest{VM: q.VM, DryRun: dry}
	if q.Keep != nil {
		if err := checkKeep(*q.Keep); err != nil {
			return r, err
		}
		keep := keepIn(*q.Keep)
		if keep.Everything() {
			return r, badRequest("keep names no rule, so every point would stay")
		}
		r.Keep = &keep
	}
	return r, nil
}

func (s *Server) postPrunePlan(_ http.ResponseWriter, r *http.Request) (any, error) {
	var q api.PruneRequest
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	p, err := pruneRequest(q, true)
	if err != nil {
		return nil, err
	}
	plan, err := s.upkeep.Prune(r.Context(), p)
	if err != nil {
		return nil, err
	}
	return pruned(plan, true), nil
}

func (s *Server) postPrune(_ http.ResponseWriter, r *http.Request) (any, error) {
	var q api.PruneRequest
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	p, err := pruneRequest(q, false)
	if err != nil {
		return nil, err
	}
	return s.startJob(maintenance.Prune, func(ctx context.Context) error {
		_, err := s.upkeep.Prune(ctx, p)
		return err
	})
}
