package dedup

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"syscall"
	"time"

	"github.com/strongroom-backup/strongroom/tier"
)

// space holds back the reserve: room that deleting and the metadata log need
// on a full disk. It asks the tier now and then and counts writes in between.
type space struct {
	tier    tier.Store
	reserve uint64
	now     func() time.Time

	mu      sync.Mutex
	checked time.Time
	total   uint64 // bytes of the tier, 0 when not known
	left    uint64 // bytes above the reserve at the last check
	written uint64 // since
}

// take accounts for n bytes about to be written, or refuses them.
func (s *space) take(n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stale(uint64(n)) {
		if err := s.check(); err != nil {
			return err
		}
	}
	if s.written+uint64(n) > s.left {
		return fmt.Errorf("the store's disk is full: %d bytes above the reserve of %d are left, %d are needed: %w",
			s.left-min(s.left, s.written), s.reserve, n, syscall.ENOSPC)
	}
	s.written += uint64(n)
	return nil
}

// used accounts for n bytes that were written without asking: what frees space
// may use the reserve.
func (s *space) used(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written += uint64(n)
}

func (s *space) stale(n uint64) bool {
	return s.checked.IsZero() || s.written+n > usageBytes || s.written+n > s.left || s.now().Sub(s.checked) > usageEvery
}

func (s *space) check() error {
	u, err := s.tier.Usage()
	if errors.Is(err, tier.ErrUsageUnknown) {
		u.Free = math.MaxUint64
	} else if err != nil {
		return fmt.Errorf("cannot tell whether there is space: %w", err)
	}
	s.checked, s.written, s.total, s.left = s.now(), 0, u.Total, u.Free-min(u.Free, s.reserve)
	return nil
}

// ample reports whether there is room for data that takes less of it only later.
// When that cannot be told there is not; take says what is wrong.
func (s *space) ample() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stale(0) && s.check() != nil {
		return false
	}
	return s.left-min(s.left, s.written) >= min(laterRoom, s.total/laterShare)
}

// room refuses a pack of n bytes the tier has no space for. It may use the
// reserve: what it replaces takes more.
func (s *space) room(n int64) error {
	u, err := s.tier.Usage()
	switch {
	case errors.Is(err, tier.ErrUsageUnknown):
		return nil
	case err != nil:
		return fmt.Errorf("cannot tell whether there is space: %w", err)
	case u.Free < uint64(n):
		return fmt.Errorf("the store's disk has %d bytes left, and writing the pack anew may take %d: %w", u.Free, n, syscall.ENOSPC)
	}
	return nil
}
