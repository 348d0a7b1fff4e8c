package maintenance

import (
	"context"
	"time"
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
	DamagedPacks  int64 // missing, or unreadable as a whole
	Repaired      int64 // damaged blocks replaced by another copy
	Affected      []AffectedImage
}

// Verify reads packs whole and checks everything in them, then repairs what has
// another copy. Damage is no error: the result has it. ErrBusy while another
// Verify is running.
func (e *Engine) Verify(ctx context.Context, r VerifyRequest) (VerifyResult, error) {
	return VerifyResult{}, errUnfinished
}

// ScrubDue verifies the packs whose turn has come by the clock, so that every
// pack is verified within the target age.
func (e *Engine) ScrubDue(ctx context.Context) (VerifyResult, error) {
	return VerifyResult{}, errUnfinished
}

// Repair replaces damaged blocks of which there is another copy by now.
func (e *Engine) Repair(ctx context.Context) (repaired, left int, err error) {
	return 0, 0, errUnfinished
}

// ScrubAge is how old the verification of the store is.
type ScrubAge struct {
	Packs      int64
	Unverified int64         // never verified
	Oldest     time.Duration // since the verification that is longest ago; 0: there is none
	Target     time.Duration
}

// Age is cheap enough for every scrape: it is counted at most once a minute.
func (e *Engine) Age() (ScrubAge, error) { return ScrubAge{}, errUnfinished }

// AffectedImage needs blocks that are damaged.
type AffectedImage struct {
	Point, VM, Disk string
	Time            time.Time
	Blocks          int64
}

// Affected lists the images that cannot be read whole, by VM and time, as of
// the last look. Damage met since is looked at in the background.
func (e *Engine) Affected() []AffectedImage { return nil }

// DamagedPack has blocks that cannot be read.
type DamagedPack struct {
	Pack   uint64
	Whole  bool  // missing, or unreadable altogether
	Blocks int64 // known to be damaged
}

// DamagedPacks lists the damage that is known and not repaired.
func (e *Engine) DamagedPacks() []DamagedPack { return nil }
