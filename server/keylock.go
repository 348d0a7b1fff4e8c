package server

import "sync"

// keyLocks are as many locks as there are names in use.
type keyLocks struct {
	mu   sync.Mutex // a leaf
	held map[string]*keyLock
}

type keyLock struct {
	mu    sync.Mutex
	users int // who have it or wait for it; guarded by keyLocks.mu
}

// lock waits for the lock of a name and returns what gives it back.
func (l *keyLocks) lock(name string) (unlock func()) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]*keyLock{}
	}
	k := l.held[name]
	if k == nil {
		k = &keyLock{}
		l.held[name] = k
	}
	k.users++
	l.mu.Unlock()
	k.mu.Lock()
	return func() {
		k.mu.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		if k.users--; k.users == 0 {
			delete(l.held, name)
		}
	}
}
