package server

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Keys of log attributes, the same everywhere so that logs can be searched.
const (
	keyError    = "error"
	keyVM       = "vm"
	keyDisk     = "disk"
	keySession  = "session"
	keyClone    = "clone"
	keyPoint    = "point"
	keyExport   = "export"
	keyPeer     = "peer"
	keyAddress  = "address"
	keyReason   = "reason"
	keyDuration = "duration"
	keyBytes    = "bytes"
	keyPath     = "path"
	keyJob      = "job"
	keyKind     = "kind"
	keyTrigger  = "trigger"
)

// NewLogger makes the logger that a configuration asks for.
func NewLogger(c LogConfig, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo // Validate knows better
	}
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// redact shortens an export's name when it is a secret: a session's token. The
// names of read-only exports hold a / or a :, tokens never do.
func redact(export string) string {
	if strings.ContainsAny(export, "/:") || len(export) <= 4 {
		return export
	}
	return export[:4] + "…"
}

// burst lets so many events of a kind through a second, and counts the rest: a
// client in a loop must not fill the disk with log lines.
type burst struct {
	mu      sync.Mutex
	window  time.Time
	seen    int
	dropped int
}

const burstMax = 20

// allow reports whether to log, and how many were left out before.
func (b *burst) allow(now time.Time) (ok bool, dropped int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Sub(b.window) >= time.Second {
		b.window, b.seen = now, 0
	}
	if b.seen++; b.seen > burstMax {
		b.dropped++
		return false, 0
	}
	dropped, b.dropped = b.dropped, 0
	return true, dropped
}

// pebbleLogger turns a database's messages into log lines. Fatalf, which Pebble
// calls when it cannot go on, ends the process: what was acknowledged is safe,
// and the next start recovers.
type pebbleLogger struct {
	log   *slog.Logger
	fatal func(string)
}

func (l pebbleLogger) Infof(format string, args ...any) { l.log.Debug(fmt.Sprintf(format, args...)) }

func (l pebbleLogger) Errorf(format string, args ...any) { l.log.Error(fmt.Sprintf(format, args...)) }

func (l pebbleLogger) Fatalf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.log.Error("a database failed for good; the server ends", keyError, text)
	l.fatal(text)
	panic(text) // Fatalf must not return
}
