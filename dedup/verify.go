package dedup

import (
	"context"
	"time"

	"golang.org/x/time/rate"

	"github.com/strongroom-backup/strongroom/tier"
)

// PackInfo is what the store knows of a pack.
type PackInfo struct {
	ID            tier.ID
	Slots, Frames int
	Bytes         int64     // of the file
	Open          bool      // without a footer yet
	Verified      time.Time // end of the last verification that found it clean; zero: never
	Damaged       int       // blocks known to be damaged
	Missing       bool      // the index knows it, the tier has not got it
}

// Packs calls visit for every pack in order of number until it returns false.
func (s *Store) Packs(visit func(PackInfo) bool) error { return errUnfinished }

// VerifyResult is what a verification of a pack found.
type VerifyResult struct {
	Bytes      int64  // read
	Blocks     int    // found to have their hash
	Damaged    []Addr // those that have not
	Whole      bool   // nothing at all is wrong with the pack
	Unreadable error  // why the pack as a whole cannot be read, nil
}

// VerifyPack reads a pack whole and checks everything in it.
func (s *Store) VerifyPack(ctx context.Context, pack uint64, l *rate.Limiter) (VerifyResult, error) {
	return VerifyResult{}, errUnfinished
}

// RepairResult counts blocks.
type RepairResult struct {
	Repaired int // replaced by another copy
	Left     int // still damaged
}

// RepairPack writes a pack anew, its damaged blocks replaced by other copies.
func (s *Store) RepairPack(ctx context.Context, pack uint64) (RepairResult, error) {
	return RepairResult{}, errUnfinished
}

// Damaged lists the blocks known to be damaged, in order.
func (s *Store) Damaged() []Addr { return nil }

// DamagedPacks lists the packs that are missing or unreadable as a whole.
func (s *Store) DamagedPacks() []uint64 { return nil }

// StoredBytes sets out[i] to the block's share of its frame's bytes.
func (s *Store) StoredBytes(addrs []Addr, out []uint32) error { return errUnfinished }
