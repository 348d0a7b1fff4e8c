package catalog

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/strongroom-backup/strongroom/internal/ids"
)

// Ref names a point, or a disk at a point:
//
//	VM[/DISK][@POINT]   VM:DISK[@POINT]   ID
//
// POINT is a point id, at least 6 characters a single id begins with, an
// RFC 3339 time (the newest point not after it), latest, or latest~N (the N-th
// before the latest); without it, latest. When a DISK is named, only points
// that have it count. A whole 16-character id alone is a point, whatever its
// VM.
type Ref struct {
	VM    string // "" only with a whole id in Point
	Disk  string // "" for the whole point
	Point string // "" for latest
}

const refGrammar = "want VM[/DISK][@POINT] or a point id, where POINT is an id, the first 6 or more characters of one, " +
	"a time like 2026-01-31T20:00:00Z, latest or latest~N"

// ParseRef reads a reference; errors match ErrInvalid and show the grammar.
func ParseRef(s string) (Ref, error) {
	bad := func(format string, args ...any) (Ref, error) {
		return Ref{}, invalid("reference %q: %s; %s", s, fmt.Sprintf(format, args...), refGrammar)
	}
	if ids.IsID(s) {
		return Ref{Point: s}, nil
	}
	name, point, hasPoint := strings.Cut(s, "@")
	vm, disk, hasDisk := name, "", false
	if i := strings.IndexAny(name, "/:"); i >= 0 {
		vm, disk, hasDisk = name[:i], name[i+1:], true
	}
	switch {
	case !ids.IsName(vm):
		return bad("%q cannot be a VM's name", vm)
	case hasDisk && !ids.IsName(disk):
		return bad("%q cannot be a disk's name", disk)
	case hasPoint && point == "":
		return bad("nothing follows the @")
	}
	if _, err := parseSelector(point); err != nil {
		return bad("%v", err)
	}
	return Ref{VM: vm, Disk: disk, Point: point}, nil
}

// String is the form ParseRef reads.
func (r Ref) String() string {
	if r.VM == "" {
		return r.Point
	}
	s := r.VM
	if r.Disk != "" {
		s += "/" + r.Disk
	}
	if r.Point != "" {
		s += "@" + r.Point
	}
	return s
}

// selector is what the POINT of a reference means.
type selector struct {
	prefix string    // of an id, if not ""
	until  time.Time // newest point before it, if not zero
	back   int       // else so many points before the latest
}

func parseSelector(s string) (selector, error) {
	if s == "" || s == "latest" {
		return selector{}, nil
	}
	if digits, ok := strings.CutPrefix(s, "latest~"); ok {
		n, err := strconv.ParseUint(digits, 10, 32)
		if err != nil || n > maxBack {
			return selector{}, fmt.Errorf("N of latest~N is a number up to %d", maxBack)
		}
		return selector{back: int(n)}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return selector{until: endOf(t, s)}, nil
	}
	if len(s) >= minPrefix && len(s) <= 16 && ids.IsID(s+strings.Repeat("0", 16-len(s))) {
		return selector{prefix: s}, nil
	}
	return selector{}, fmt.Errorf("%q is no point", s)
}

// endOf is the first millisecond after the time s names: a time without a
// fraction names its whole second, so that a time copied from a listing that
// shows seconds finds the point it was copied from.
func endOf(t time.Time, s string) time.Time {
	if strings.ContainsAny(s, ".,") {
		return t.Truncate(time.Millisecond).Add(time.Millisecond)
	}
	return t.Truncate(time.Second).Add(time.Second)
}
