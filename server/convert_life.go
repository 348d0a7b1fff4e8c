package server

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/catalog/retention"
	"github.com/strongroom-backup/strongroom/maintenance"
	"github.com/strongroom-backup/strongroom/server/api"
)

// Conversions of what concerns the life of points.

func job(j maintenance.Job) api.Job {
	out := api.Job{
		ID: j.ID, Kind: string(j.Kind), Trigger: string(j.Trigger), State: api.JobDone, Phase: j.Phase,
		Started: j.Started.UTC(), Done: j.Done, Total: j.Total, Unit: j.Unit,
	}
	switch {
	case j.Ended.IsZero():
		out.State, out.ETASeconds = api.JobRunning, j.ETA.Seconds()
	case errors.Is(j.Err, context.Canceled):
		out.State = api.JobCancelled
	case j.Err != nil:
		out.State, out.Error = api.JobFailed, j.Err.Error()
	}
	if !j.Ended.IsZero() {
		out.Ended, out.Phase = j.Ended.UTC(), ""
	}
	if j.GC != nil {
		r := collected(*j.GC)
		out.GC = &r
	}
	if j.Verify != nil {
		r := verified(*j.Verify)
		out.Verify = &r
	}
	if j.Prune != nil {
		r := pruned(*j.Prune, false)
		out.Prune = &r
	}
	if c := j.Compress; c != nil {
		out.Compress = &api.CompressResult{Packs: c.Packs, Skipped: c.Skipped, BeforeBytes: c.Before, AfterBytes: c.After, Seconds: c.Took.Seconds()}
	}
	return out
}

func jobOrNil(j *maintenance.Job) *api.Job {
	if j == nil {
		return nil
	}
	out := job(*j)
	return &out
}

func collected(r maintenance.CollectResult) api.GCResult {
	out := api.GCResult{
		Purged: r.Purged, Forgotten: r.Forgotten, Pinned: r.Pinned,
		Points: r.Marked.Points, Chunks: r.Marked.Chunks, Packs: r.Tally.Packs, LiveBytes: r.Tally.LiveBytes, DeadBytes: r.Tally.DeadBytes,
		Victims: int64(r.Sweep.Victims), CondemnedBytes: r.Sweep.CondemnedBytes, MovedBytes: r.Sweep.MovedBytes, FreedBytes: r.Sweep.FreedBytes,
		Seconds: r.Took.Seconds(),
	}
	for _, p := range r.Phases {
		out.Phases = append(out.Phases, api.Phase{Name: p.Name, Seconds: p.Took.Seconds()})
	}
	return out
}

func verified(r maintenance.VerifyResult) api.VerifyResult {
	return api.VerifyResult{
		Packs: r.Packs, Skipped: r.Skipped, Bytes: r.Bytes, Blocks: r.Blocks,
		DamagedBlocks: r.DamagedBlocks, DamagedPacks: r.DamagedPacks, Repaired: r.Repaired, Images: affected(r.Affected),
	}
}

func affected(list []maintenance.AffectedImage) []api.AffectedImage {
	out := []api.AffectedImage{}
	for _, im := range list {
		out = append(out, api.AffectedImage{Point: im.Point, VM: im.VM, Disk: im.Disk, Time: im.Time, Blocks: im.Blocks})
	}
	return out
}

func pruned(r maintenance.PruneResult, dry bool) api.PruneReport {
	out := api.PruneReport{Points: []api.PrunePoint{}, Kept: r.Kept, Removed: r.Removed, DryRun: dry}
	for _, p := range r.Points {
		q := api.PrunePoint{Point: p.Point, VM: p.VM, Time: p.Time, Labels: p.Labels, Group: p.Group, Keep: p.Keep, Reason: p.Reason}
		if p.Err != nil {
			q.Error = p.Err.Error()
		}
		out.Points = append(out.Points, q)
	}
	return out
}

func usage(u catalog.Usage) api.Usage {
	return api.Usage{
		LogicalBytes: u.Logical, TransferredBytes: u.Transferred, NewBytes: u.New,
		UniqueBytes: u.Unique, UniqueStoredBytes: u.UniqueStored, SharedBytes: u.Shared, SharedStoredBytes: u.SharedStored, StoredBytes: u.Stored,
	}
}

func chain(t maintenance.Tree) api.Chain {
	out := api.Chain{
		VM: t.VM, Disk: t.Disk, Images: []api.ChainImage{}, Length: t.Length, Limit: t.Settings.ChainLimit,
		FullAfter: t.Settings.FullAfter, Warnings: t.Warnings, Total: usage(t.Total),
	}
	for _, im := range t.Images {
		out.Images = append(out.Images, api.ChainImage{
			Point: im.Point, Time: im.Time, Mode: string(im.Mode), Parent: im.Parent, Depth: im.Depth, Manual: im.Manual, Hold: im.Hold,
			LockedUntil: im.LockedUntil, Damaged: im.Damaged, InUse: im.InUse, Size: im.Image.Size, Usage: usage(im.Usage),
		})
	}
	return out
}

func merged(m maintenance.Merged, dry bool) api.Merged {
	return api.Merged{VM: m.VM, Disk: m.Disk, Direction: m.Direction, From: m.From, Into: m.Into, Gone: append([]string{}, m.Gone...), DryRun: dry}
}

func keepOut(k retention.Keep) api.Keep {
	return api.Keep{Last: k.Last, Hourly: k.Hourly, Daily: k.Daily, Weekly: k.Weekly, Monthly: k.Monthly, Yearly: k.Yearly}
}

func keepIn(k api.Keep) retention.Keep {
	return retention.Keep{Last: k.Last, Hourly: k.Hourly, Daily: k.Daily, Weekly: k.Weekly, Monthly: k.Monthly, Yearly: k.Yearly}
}

func convertMap[A, B any](in map[string]A, f func(A) B) map[string]B {
	if in == nil {
		return nil
	}
	out := make(map[string]B, len(in))
	for k, v := range in {
		out[k] = f(v)
	}
	return out
}

func policyOut(p catalog.Policy) api.Policy {
	out := api.Policy{
		LabelKeep: convertMap(p.LabelKeep, keepOut), FullAfter: p.FullAfter, ChainLimit: p.ChainLimit, ManualWarn: p.ManualWarn, StrictChains: p.StrictChains,
	}
	if p.Keep != nil {
		k := keepOut(*p.Keep)
		out.Keep = &k
	}
	if p.TrashKeep != nil {
		seconds := int64(*p.TrashKeep / time.Second)
		out.TrashSeconds = &seconds
	}
	return out
}

func policyIn(p api.Policy) catalog.Policy {
	out := catalog.Policy{
		LabelKeep: convertMap(p.LabelKeep, keepIn), FullAfter: p.FullAfter, ChainLimit: p.ChainLimit, ManualWarn: p.ManualWarn, StrictChains: p.StrictChains,
	}
	if p.Keep != nil {
		k := keepIn(*p.Keep)
		out.Keep = &k
	}
	if p.TrashSeconds != nil {
		keep := time.Duration(*p.TrashSeconds) * time.Second
		out.TrashKeep = &keep
	}
	return out
}

// effective is a policy with everything set.
func effective(s maintenance.Settings) api.Policy {
	keep, trash := keepOut(s.Keep), int64(s.TrashKeep/time.Second)
	return api.Policy{
		Keep: &keep, LabelKeep: convertMap(s.LabelKeep, keepOut), FullAfter: &s.FullAfter, ChainLimit: &s.ChainLimit,
		ManualWarn: &s.ManualWarn, StrictChains: &s.StrictChains, TrashSeconds: &trash,
	}
}

func damagedPacks(list []maintenance.DamagedPack) []api.DamagedPack {
	out := []api.DamagedPack{}
	for _, p := range list {
		out = append(out, api.DamagedPack{Pack: p.Pack, Whole: p.Whole, Blocks: p.Blocks})
	}
	slices.SortFunc(out, func(a, b api.DamagedPack) int { return int(a.Pack) - int(b.Pack) })
	return out
}
