package maintenance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
)

// VerifyRequest says what to read and check.
type VerifyRequest struct {
	Trigger Trigger // OnRequest when empty
	Ref     string  // VM[/DISK][@POINT]: the packs its images use; empty: all packs
	// OlderThan leaves out packs verified so recently; Since those verified
	// after that time. Zero values leave nothing out.
	OlderThan time.Duration
	Since     time.Time
}

// VerifyResult is what a verification read and found.
type VerifyResult struct {
	Packs         int64 // read
	Skipped       int64 // verified recently
	Bytes         int64 // read
	Blocks        int64 // found good
	DamagedBlocks int64
	DamagedPacks  int64           // missing, or unreadable as a whole
	Repaired      int64           // damaged blocks replaced by another copy
	Affected      []AffectedImage // that cannot be read whole after that
}

// Verify reads packs whole and checks everything in them, then repairs what has
// another copy. Damage is no error: the result has it. With nothing left out,
// and else once a day, the metadata log is read too; damage there is an error
// that wraps catalog.ErrCorrupt and says which file. ErrBusy while another
// Verify is running.
func (e *Engine) Verify(ctx context.Context, r VerifyRequest) (VerifyResult, error) {
	if r.OlderThan < 0 {
		return VerifyResult{}, fmt.Errorf("%w: an age is not below 0", ErrBadRequest)
	}
	packs, skipped, err := e.packsOf(ctx, &r)
	if err != nil {
		return VerifyResult{}, fmt.Errorf("verify %s: %w", or(r.Ref, "all packs"), err)
	}
	ctx, run, err := e.begin(ctx, Verify, r.Trigger, "bytes")
	if err != nil {
		return VerifyResult{}, err
	}
	all := r.Ref == "" && r.OlderThan == 0 && r.Since.IsZero()
	return e.verify(ctx, run, packs, skipped, all || r.Ref == "" && e.logDue())
}

// packsOf lists what a request means, and counts what it leaves out.
func (e *Engine) packsOf(ctx context.Context, r *VerifyRequest) (packs []dedup.PackInfo, skipped int64, err error) {
	wanted := func(uint64) bool { return true }
	if r.Ref != "" {
		set, err := e.packsUsed(ctx, r.Ref)
		if err != nil {
			return nil, 0, err
		}
		wanted = func(pack uint64) bool { return set[pack] }
	}
	since := r.Since
	if r.OlderThan > 0 {
		if t := e.now().Add(-r.OlderThan); since.IsZero() || t.Before(since) {
			since = t
		}
	}
	err = e.blocks.Packs(func(p dedup.PackInfo) bool {
		switch {
		case !wanted(p.ID.Pack):
		case !since.IsZero() && p.Verified.After(since):
			skipped++
		default:
			packs = append(packs, p)
		}
		return true
	})
	return packs, skipped, err
}

// packsUsed are the packs that the images of a reference lead to, and the files
// of one that names no disk.
func (e *Engine) packsUsed(ctx context.Context, text string) (map[uint64]bool, error) {
	p, ref, err := e.resolve(text)
	if err != nil {
		return nil, err
	}
	set := map[uint64]bool{}
	var parts []string
	for _, im := range p.Images {
		if ref.Disk == "" || im.Disk == ref.Disk {
			parts = append(parts, im.Disk)
		}
	}
	for _, f := range p.Files {
		if ref.Disk == "" {
			parts = append(parts, catalog.FileKey(f.Name))
		}
	}
	for _, part := range parts {
		if err := e.eachRun(ctx, p.ID, part, func(r catalog.Run) { set[r.Addr.Pack()] = true }); err != nil {
			return nil, err
		}
	}
	return set, nil
}

// eachRun calls visit for the runs of an image, those of equal chunks once.
func (e *Engine) eachRun(ctx context.Context, point, disk string, visit func(catalog.Run)) error {
	list, err := e.cat.ChunkList(point, disk)
	if err != nil {
		return err
	}
	slices.Sort(list)
	for _, no := range slices.Compact(list) {
		if no == 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		c, err := e.cat.Chunk(no)
		if err != nil {
			return err
		}
		for _, r := range c.Runs {
			visit(r)
		}
	}
	return nil
}

// verify is the work of a job; it ends it.
func (e *Engine) verify(ctx context.Context, r *run, packs []dedup.PackInfo, skipped int64, log bool) (res VerifyResult, err error) {
	res.Skipped = skipped
	publish := func() {
		now := res
		r.change(func(j *Job) { j.Verify = &now })
	}
	defer func() {
		e.verified(&res, err)
		publish()
		r.end(err)
	}()
	r.phase("verify")
	ill, err := e.readPacks(ctx, r, packs, &res, publish)
	if err != nil {
		return res, fmt.Errorf("verify packs: %w", err)
	}
	r.phase("repair")
	repaired, _, err := e.repair(ctx, ill...)
	res.Repaired = int64(repaired)
	if err != nil {
		return res, fmt.Errorf("repair packs: %w", err)
	}
	r.phase("affected")
	if err = e.lookAtDamage(ctx); err != nil {
		return res, err
	}
	res.Affected = e.Affected()
	if log {
		r.phase("metadata log")
		err = e.verifyLog()
	}
	return res, err
}

// verifyLog reads the metadata log, which nobody else does until the catalog
// has to be rebuilt from it. Damage is an error: only an intact copy of the file
// mends it.
func (e *Engine) verifyLog() error {
	at := e.now()
	err := e.cat.VerifyLog()
	if err == nil {
		e.logVerified.Store(at.UnixNano())
	}
	return err
}

// logDue tells whether a scrub is to read the metadata log again.
func (e *Engine) logDue() bool {
	return e.now().Sub(time.Unix(0, e.logVerified.Load())) >= logEvery
}

// readPacks verifies packs one after the other. It returns those that something
// is wrong with.
func (e *Engine) readPacks(ctx context.Context, r *run, packs []dedup.PackInfo, res *VerifyResult, publish func()) (ill []uint64, err error) {
	var total, done int64
	for _, p := range packs {
		total += p.Bytes
	}
	l := limiter(e.config.Scrub.Rate)
	for _, p := range packs {
		v, err := e.blocks.VerifyPack(ctx, p.ID.Pack, l)
		switch {
		case errors.Is(err, dedup.ErrUnknownAddr): // collected meanwhile
		case err != nil:
			return ill, err
		default:
			res.add(&v)
			if !v.Whole {
				ill = append(ill, p.ID.Pack)
			}
		}
		done += p.Bytes
		r.progress(done, total)
		publish()
	}
	return ill, nil
}

func (res *VerifyResult) add(v *dedup.VerifyResult) {
	res.Packs++
	res.Bytes += v.Bytes
	res.Blocks += int64(v.Blocks)
	res.DamagedBlocks += int64(len(v.Damaged))
	if v.Unreadable != nil {
		res.DamagedPacks++
	}
}

// verified counts a verification.
func (e *Engine) verified(res *VerifyResult, err error) {
	e.age.stale()
	e.count(func(s *Stats) {
		v := &s.Verify
		v.add(err)
		v.LastRun = e.now()
		v.Packs += uint64(res.Packs)
		v.Bytes += uint64(res.Bytes)
		v.DamagedBlocks += uint64(res.DamagedBlocks)
	})
}
