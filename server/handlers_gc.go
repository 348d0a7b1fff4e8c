package server

import (
	"context"
	"net/http"

	"github.com/strongroom-backup/strongroom/maintenance"
	"github.com/strongroom-backup/strongroom/server/api"
)

func (s *Server) getGC(http.ResponseWriter, *http.Request) (any, error) {
	reclaimable, err := s.upkeep.Reclaimable()
	if err != nil {
		return nil, err
	}
	running, last := s.jobs.ofKind(maintenance.GC)
	st := s.upkeep.Stats()
	return api.GCStatus{
		Running: jobOrNil(running), Last: jobOrNil(last), LastSuccess: st.GC.LastSuccess, ReclaimableBytes: reclaimable,
		PendingPoints: int64(s.engines.cat.Stats().Removed), TrashPoints: int64(st.Trash.Points), TrashBytes: st.Trash.Bytes,
	}, nil
}

func (s *Server) postGC(_ http.ResponseWriter, r *http.Request) (any, error) {
	var q api.GCRequest
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	if q.DeadRatio != 0 && !(q.DeadRatio >= deadRatioMin && q.DeadRatio <= 1) {
		return nil, badRequest("dead_ratio is %v; want %v to 1", q.DeadRatio, deadRatioMin)
	}
	return s.startJob(maintenance.GC, func(ctx context.Context) error {
		_, err := s.upkeep.Collect(ctx, maintenance.CollectOptions{DeadRatio: q.DeadRatio})
		return err
	})
}
