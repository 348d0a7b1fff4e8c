package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/maintenance"
	"github.com/strongroom-backup/strongroom/server/api"
	"github.com/strongroom-backup/strongroom/volume"
)

// health is the server's opinion of itself.
func (s *Server) health() api.Health {
	s.mu.Lock()
	draining := s.draining
	s.mu.Unlock()
	if draining {
		return api.Health{Status: "draining"}
	}
	if err := s.engines.cat.Err(); err != nil {
		return api.Health{Status: "failed", Reason: err.Error()}
	}
	return api.Health{Status: "ok", Warnings: s.warnings()}
}

func (s *Server) getHealth(http.ResponseWriter, *http.Request) (any, error) {
	h := s.health()
	if h.Status != "ok" {
		message := "the server is " + h.Status
		if h.Reason != "" {
			message += ": " + h.Reason
		}
		return nil, &api.Error{Status: http.StatusServiceUnavailable, Message: message}
	}
	return h, nil
}

// warnings are what an operator should look at though the server works. Whoever
// reaches the address is told, so they name no VM.
func (s *Server) warnings() (out []string) {
	warn := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	st := s.upkeep.Stats()
	if v := st.Verify; v.DamagedNow > 0 {
		warn("packs with damage: %d; recovery points that cannot be read whole: %d; see strongroom damage", v.DamagedNow, v.AffectedPoints)
	}
	if u, err := s.engines.tier.Usage(); err == nil && u.Free <= uint64(s.config.Store.Reserve) {
		warn("the store is full: %s are free, %v are held back", units.Human(int64(u.Free)), s.config.Store.Reserve)
	}
	if a := st.Verify.Age; a.Target > 0 && a.Oldest > a.Target+a.Target/scrubLateShare {
		warn("verification is late: the oldest is %v ago, wanted is %v; raise scrub.rate", units.Duration(a.Oldest.Round(time.Hour)), units.Duration(a.Target))
	}
	if n := s.engines.vols.Stats().Clones; n[volume.Stale]+n[volume.Dead] > 0 {
		warn("clones that lost writes and are not served: %d; see strongroom clone list", n[volume.Stale]+n[volume.Dead])
	}
	for _, kind := range []maintenance.Kind{maintenance.GC, maintenance.Prune, maintenance.Compress} {
		if _, last := s.jobs.ofKind(kind); last != nil && last.Err != nil && !errors.Is(last.Err, context.Canceled) {
			warn("the last %s failed; see strongroom job show %s", kind, last.ID)
		}
	}
	if err := s.engines.cat.AccountStats().Err; err != nil {
		warn("the accounts of used space stand still, and collection with them; see the log")
	}
	return out
}
