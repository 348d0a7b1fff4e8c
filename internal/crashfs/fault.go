package crashfs

import "syscall"

// Effect is what a failing operation does all the same.
type Effect int

const (
	// Before: nothing happens.
	Before Effect = iota
	// After: the operation takes effect and then reports the error.
	After
	// Short: a write puts half of its bytes; anything else does nothing.
	Short
	// DropDirty: a file's sync forgets what was dirty though readers still see
	// it, so that the next sync succeeds and saves nothing of it. Anything else
	// does nothing. This is what Linux does after a failed write-back. (Names
	// are not lost in this way: a journal that cannot be written makes the
	// whole file system read-only, for which see Sticky.)
	DropDirty
)

// Fault makes operations fail.
type Fault struct {
	// Match picks operations; nil picks every mutating one. It runs under the
	// file system's lock.
	Match func(Op) bool
	// Skip is how many matching operations pass before one fails.
	Skip int
	// Sticky makes every matching operation from then on fail too.
	Sticky bool
	// Err is what the caller gets, EIO when nil.
	Err    error
	Effect Effect

	seen, fired int
}

// Is picks operations of the given kinds.
func Is(kinds ...Kind) func(Op) bool {
	return func(op Op) bool {
		for _, k := range kinds {
			if op.Kind == k {
				return true
			}
		}
		return false
	}
}

// Inject arms a fault.
func (fs *FS) Inject(f *Fault) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.faults = append(fs.faults, f)
}

// Heal disarms every fault.
func (fs *FS) Heal() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.faults = nil
}

// Fired is how many operations f has made fail.
func (fs *FS) Fired(f *Fault) int {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	return f.fired
}

// verdict is what is to become of an operation. The zero verdict lets it be.
type verdict struct {
	err    error
	effect Effect
}

// passes reports whether the operation's whole effect happens.
func (v verdict) passes() bool { return v.err == nil || v.effect == After }

func (fs *FS) judge(op *Op) verdict {
	for _, f := range fs.faults {
		if f.hits(op) {
			return verdict{err: f.error(), effect: f.Effect}
		}
	}
	return verdict{}
}

func (f *Fault) hits(op *Op) bool {
	if f.Match == nil && op.Seq == 0 || f.Match != nil && !f.Match(*op) {
		return false
	}
	f.seen++
	if f.seen <= f.Skip || f.fired > 0 && !f.Sticky {
		return false
	}
	f.fired++
	return true
}

func (f *Fault) error() error {
	if f.Err != nil {
		return f.Err
	}
	return syscall.EIO
}
