package files

import (
	"fmt"
	"sync"
	"syscall"
)

// account is what a user's files take of his quota, in bytes. The nil account has none.
type account struct {
	mu          sync.Mutex
	user        string
	used, quota int64 // quota 0: none
}

// take pays for n more bytes, or less when negative.
func (a *account) take(n int64) error {
	if a == nil || n == 0 {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if n > 0 && a.quota > 0 && a.used+n > a.quota {
		return fmt.Errorf("%w: user %s has %d bytes in files not committed, and a quota of %d; commit or remove some",
			syscall.EDQUOT, a.user, a.used, a.quota)
	}
	a.used += n
	return nil
}

// add changes what is used, whatever the quota.
func (a *account) add(n int64) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.used += n
}

// left is what may still be written; ok is false without a quota.
func (a *account) left() (quota, left int64, ok bool) {
	if a == nil {
		return 0, 0, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.quota, max(0, a.quota-a.used), a.quota > 0
}

// limit sets a user's quota.
func (a *account) limit(quota int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.quota = quota
}
