package server

import (
	"context"
	"net/http"
	"time"

	"github.com/strongroom-backup/strongroom/maintenance"
	"github.com/strongroom-backup/strongroom/server/api"
)

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
