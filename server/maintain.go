package server

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/maintenance"
)

// openMaintenance makes the engine that looks after points, space and damage.
func (s *Server) openMaintenance(clock func() time.Time) (err error) {
	schedule, err := s.config.Retention.schedule()
	if err != nil {
		return err
	}
	c := &s.config
	s.upkeep, err = maintenance.New(maintenance.Options{
		Blocks: s.engines.blocks, Catalog: s.engines.cat, Volumes: s.engines.vols,
		Space: s.engines.space(uint64(c.Store.Reserve)), Clock: clock,
		Config: maintenance.Config{
			Settings: c.settingsOfVMs(),
			GC: maintenance.GCConfig{
				Rate: int64(c.GC.Rate), DeadRatio: c.GC.DeadRatio, ReclaimAt: int64(c.GC.ReclaimAt),
				Every: time.Duration(c.GC.Every), Grace: time.Duration(c.GC.Grace),
			},
			Compress: maintenance.CompressConfig{
				Idle: time.Duration(c.Compress.Idle), At: int64(c.Compress.WaitingAt), Rate: int64(c.Compress.Rate),
			},
			Scrub:    maintenance.ScrubConfig{TargetAge: time.Duration(c.Scrub.TargetAge), Rate: int64(c.Scrub.Rate)},
			PruneAt:  schedule,
			Location: c.Retention.location(),
		},
		Events: s.upkeepEvents(),
	})
	return err
}

// settingsOfVMs are what holds for VMs without a policy.
func (c *Config) settingsOfVMs() maintenance.Settings {
	return maintenance.Settings{
		Keep: c.Retention.Keep.keep(), LabelKeep: c.Retention.Labels,
		FullAfter: int(c.Chains.FullAfter), ChainLimit: int(c.Chains.Limit), ManualWarn: int(c.Chains.WarnManual),
		StrictChains: c.Chains.Strict, TrashKeep: time.Duration(c.Trash.Keep),
	}
}

// space tells what clients can still store, which is less than what is free by
// what is held back.
func (e *engines) space(reserve uint64) func() (free, total uint64, err error) {
	return func() (free, total uint64, err error) {
		u, err := e.tier.Usage()
		return u.Free - min(reserve, u.Free), u.Total, err
	}
}

// upkeepEvents turns what the engine tells into log lines and remembered jobs.
func (s *Server) upkeepEvents() maintenance.Events {
	return maintenance.Events{
		Began: func(j maintenance.Job) {
			s.log.Debug("job begins", keyJob, j.ID, keyKind, j.Kind, keyTrigger, j.Trigger)
			s.jobs.began(j)
		},
		Ended: func(j maintenance.Job) {
			s.logEnded(j)
			s.jobs.ended(j)
		},
		Affected: func(images []maintenance.AffectedImage) {
			if len(images) == 0 {
				s.log.Info("every image can be read whole again")
				return
			}
			s.log.Error("images cannot be read whole: see strongroom damage", "images", len(images),
				keyVM, images[0].VM, keyDisk, images[0].Disk, keyPoint, images[0].Point)
		},
		Trashed: func(p catalog.Point, reason string) {
			s.log.Info("point deleted by policy", keyPoint, p.ID, keyVM, p.VM, keyReason, reason, "purge", p.Purge)
		},
		Purged: func(p catalog.Point) {
			s.log.Info("point has left the trash for good", keyPoint, p.ID, keyVM, p.VM)
		},
		Warning: func(text string) { s.log.Warn(text) },
		Failed: func(what string, err error) {
			s.log.Error("upkeep failed; it is tried again: "+what, keyError, err)
		},
	}
}

// logEnded tells how a job went. What found nothing to do is told quietly.
func (s *Server) logEnded(j maintenance.Job) {
	level, message := slog.LevelInfo, "job done"
	attrs := []any{keyJob, j.ID, keyKind, j.Kind, keyTrigger, j.Trigger, keyDuration, j.Ended.Sub(j.Started).Round(time.Millisecond)}
	if g := j.GC; g != nil {
		attrs = append(attrs, "packs", g.Sweep.Victims, "condemned_bytes", g.Sweep.CondemnedBytes, "moved_bytes", g.Sweep.MovedBytes,
			"freed_bytes", g.Sweep.FreedBytes, "purged_points", g.Purged)
	}
	if v := j.Verify; v != nil {
		attrs = append(attrs, "packs", v.Packs, keyBytes, v.Bytes, "damaged_blocks", v.DamagedBlocks, "damaged_packs", v.DamagedPacks, "repaired_blocks", v.Repaired)
	}
	if p := j.Prune; p != nil {
		attrs = append(attrs, "kept", p.Kept, "removed", p.Removed)
	}
	if c := j.Compress; c != nil {
		attrs = append(attrs, "packs", c.Packs, "skipped", c.Skipped, "before_bytes", c.Before, "after_bytes", c.After)
	}
	switch {
	case errors.Is(j.Err, context.Canceled):
		message = "job cancelled"
	case j.Err != nil:
		level, message = slog.LevelError, "job failed"
		attrs = append(attrs, keyError, j.Err)
	case idle(j):
		level = slog.LevelDebug
	}
	s.log.Log(s.ctx, level, message, attrs...)
}
