package server

import (
	"log/slog"
	"sync"

	"github.com/strongroom-backup/strongroom/volume"
)

// sessionLog turns what volume tells of backups and clones into log lines. What
// is told while sessions are recovered waits until it is known which are clones.
// Its hooks ask volume nothing: they are called with volume's locks held.
type sessionLog struct {
	log   *slog.Logger
	ended func(session string) // of sessions that go on no more

	mu     sync.Mutex // a leaf
	opened bool
	early  []func()
	clones map[string]bool
}

func newSessionLog(log *slog.Logger, ended func(session string)) *sessionLog {
	return &sessionLog{log: log, ended: ended, clones: map[string]bool{}}
}

// open tells what was kept back. It is called when the sessions are recovered.
func (l *sessionLog) open(clones []volume.Status) {
	l.mu.Lock()
	for _, st := range clones {
		l.clones[st.Session] = true
	}
	early := l.early
	l.opened, l.early = true, nil
	l.mu.Unlock()
	for _, tell := range early {
		tell()
	}
}

// addClone says that a session is a clone.
func (l *sessionLog) addClone(session string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clones[session] = true
}

func (l *sessionLog) isClone(session string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.clones[session]
}

// when does something now, or when open is called.
func (l *sessionLog) when(do func()) {
	l.mu.Lock()
	if !l.opened {
		l.early = append(l.early, do)
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	do()
}

func (l *sessionLog) events() volume.Events {
	return volume.Events{
		Recovered: func(session, vm string, disks int) { l.when(func() { l.recovered(session, vm, disks) }) },
		Dead:      func(session, vm, reason string) { l.when(func() { l.dead(session, vm, reason) }) },
		Stale: func(session, vm, reason string) {
			l.when(func() {
				l.log.Error("clone is stale: acknowledged writes may be lost; its exports are refused", keyClone, session, keyVM, vm, keyReason, reason)
			})
		},
		Closed: func(session, vm string, s volume.State) { l.when(func() { l.closed(session, vm, s) }) },
	}
}

func (l *sessionLog) recovered(session, vm string, disks int) {
	if l.isClone(session) {
		l.log.Info("clone goes on after the restart", keyClone, session, keyVM, vm, "disks", disks)
		return
	}
	l.log.Info("open backup goes on after the restart", keySession, session, keyVM, vm, "disks", disks)
}

func (l *sessionLog) dead(session, vm, reason string) {
	if l.isClone(session) {
		l.log.Error("clone is dead: nothing can be read from it any more; its exports are refused", keyClone, session, keyVM, vm, keyReason, reason)
		return
	}
	l.log.Error("backup is dead: acknowledged writes may be lost; its exports are refused", keySession, session, keyVM, vm, keyReason, reason)
	l.ended(session)
}

// closed tells of an end. What a clone was sealed as is told where that was asked
// for.
func (l *sessionLog) closed(session, vm string, s volume.State) {
	if !l.isClone(session) {
		l.log.Info("backup "+string(s), keySession, session, keyVM, vm)
		l.ended(session)
		return
	}
	if s == volume.Aborted {
		l.log.Info("clone discarded", keyClone, session, keyVM, vm)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.clones, session)
}
