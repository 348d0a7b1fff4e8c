package dedup

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/time/rate"

	"github.com/strongroom-backup/strongroom/internal/mutant"
	"github.com/strongroom-backup/strongroom/tier"
)

// CompressResult is what compressing a pack later has brought.
type CompressResult struct {
	Before, After int64 // bytes of the pack's file
	Frames        int   // whose compression was tried now
}

// CompressPack writes a sealed pack anew, with those frames compressed that a
// writer made by [Store.NewLaterWriter] stored as they were. Every block keeps
// its slot. Frames that do not shrink stay as they are and are not tried again;
// when nothing is left to try the pack is left alone. It runs beside everything
// else, on half the cores while writers store something; the old file goes when
// nobody reads it. l is the budget of bytes written, or nil.
//
// A pack with damaged blocks of which there is no other copy is left as it is,
// with an error that wraps ErrDamaged, and so is one that is missing or cannot
// be read; a pack that is open or unknown is an error too. ENOSPC is wrapped
// when there is no room for the new file beside the old one.
func (s *Store) CompressPack(ctx context.Context, pack uint64, l *rate.Limiter) (CompressResult, error) {
	if s.closed.Load() {
		return CompressResult{}, ErrClosed
	}
	s.rewriting.Lock()
	defer s.rewriting.Unlock()
	res, err := s.compressPack(ctx, pack, l)
	if err != nil {
		return CompressResult{}, fmt.Errorf("compress pack %d: %w", pack, err)
	}
	return res, nil
}

// compressPack is CompressPack for the holder of rewriting.
func (s *Store) compressPack(ctx context.Context, pack uint64, l *rate.Limiter) (res CompressResult, err error) {
	v, err := s.view(pack)
	if err != nil {
		return res, err
	}
	if v.open != nil {
		return res, errors.New("it is open; it can be compressed once it is full, or idle and sealed")
	}
	if known := s.health.record(pack); !known.empty() {
		return res, damagedPack(pack, v.id.Gen, 0, "something in the pack is damaged; it is compressed once it is repaired")
	}
	if res.Before, err = s.packSize(v.id); err != nil {
		return res, err
	}
	if res.After = res.Before; v.laterBytes() == 0 {
		return res, nil
	}
	if err := s.space.room(res.Before); err != nil && !mutant.On("dedup/compress-without-room") {
		return res, err
	}
	done, err := s.rewritePack(ctx, pack, rewritePlan{
		wanted:   func(uint16) bool { return true },
		verbatim: func(int, int) bool { return true },
		limit:    l, width: s.compressWidth,
		salvage: mutant.On("dedup/compress-salvages"),
	})
	if err != nil {
		return res, s.leftAlone(pack, err)
	}
	res.After, res.Frames = res.Before-done.freed, done.tried
	s.count.compressions.Add(1)
	s.count.compressedIn.Add(uint64(res.Before))
	s.count.compressedOut.Add(uint64(res.After))
	s.count.repairedBlocks.Add(uint64(done.repaired))
	_, err = s.reap(false)
	return res, err
}

// packSize is the size of a pack's file.
func (s *Store) packSize(id tier.ID) (int64, error) {
	f, err := s.packFile(id)
	if err != nil {
		return 0, err
	}
	defer f.release()
	return f.value.Size()
}

// leftAlone remembers a pack that could not be compressed for its damage, so
// that [Store.LaterPacks] does not name it until it was verified or repaired.
func (s *Store) leftAlone(pack uint64, err error) error {
	var damaged *liveDamage
	if errors.As(err, &damaged) && s.health.blame(pack) {
		s.saveHealth(pack)
	}
	return err
}

// LaterPacks lists the packs that CompressPack could do something for, in order:
// sealed ones with frames whose compression was not tried and without known
// damage.
func (s *Store) LaterPacks() []uint64 {
	var packs []uint64
	for _, pack := range s.later.list() {
		known := s.health.record(pack)
		if _, there := s.packs.gen(pack); there && known.empty() && !s.frozen.has(pack) {
			packs = append(packs, pack)
		}
	}
	return packs
}

// compressWidth is how many frames are compressed at a time: on all cores, or on
// half of them while clients store something.
func (s *Store) compressWidth() int {
	n := runtime.GOMAXPROCS(0)
	if s.writers.Load() > 0 && monotonic()-s.putAt.Load() < int64(busyFor) {
		n /= 2
	}
	return max(1, n)
}

var started = time.Now()

// monotonic is nanoseconds of a clock that nobody sets.
func monotonic() int64 { return int64(time.Since(started)) }
