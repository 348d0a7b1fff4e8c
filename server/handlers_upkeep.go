package server

import (
	"context"
	"net/http"
	"time"

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

func (s *Server) getVerify(http.ResponseWriter, *http.Request) (any, error) {
	age, err := s.upkeep.Age()
	if err != nil {
		return nil, err
	}
	running, last := s.jobs.ofKind(maintenance.Verify, maintenance.Scrub)
	return api.ScrubStatus{
		Running: jobOrNil(running), Last: jobOrNil(last), Packs: age.Packs, Unverified: age.Unverified,
		OldestSeconds: age.Oldest.Seconds(), TargetAgeSeconds: age.Target.Seconds(),
	}, nil
}

func (s *Server) postVerify(_ http.ResponseWriter, r *http.Request) (any, error) {
	var q api.VerifyRequest
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	if q.OlderThanSeconds < 0 || q.OlderThanSeconds > int64(scrubAgeMax.Seconds()) {
		return nil, badRequest("older_than_seconds is %d; want 0 to %d", q.OlderThanSeconds, int64(scrubAgeMax.Seconds()))
	}
	return s.startJob(maintenance.Verify, func(ctx context.Context) error {
		_, err := s.upkeep.Verify(ctx, maintenance.VerifyRequest{
			Ref: q.Ref, OlderThan: time.Duration(q.OlderThanSeconds) * time.Second, Since: q.Since,
		})
		return err
	})
}

func (s *Server) getDamage(http.ResponseWriter, *http.Request) (any, error) {
	return api.DamageReport{Packs: damagedPacks(s.upkeep.DamagedPacks()), Images: affected(s.upkeep.Affected())}, nil
}

// startJob answers with the job that run is.
func (s *Server) startJob(kind maintenance.Kind, run func(context.Context) error) (any, error) {
	j, err := s.jobs.start(s.ctx, kind, run)
	if err != nil {
		return nil, err
	}
	return job(j), nil
}
