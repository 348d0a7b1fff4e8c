package inplace

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Errors that mean a refusal: nothing has been written.
var (
	// ErrBusy: another run is at work on the target, or somebody has it open.
	ErrBusy = errors.New("the target is in use")
	// ErrSize: the target has not the disk's size.
	ErrSize = errors.New("the target has another size")
	// ErrJournal: the journal cannot be understood, or belongs to something else.
	ErrJournal = errors.New("the journal cannot be used")
	// ErrTarget: it cannot be overwritten, or should not.
	ErrTarget = errors.New("not a target")
	// ErrDirty: what is said to have changed makes no sense for this target.
	ErrDirty = errors.New("what is said to have changed cannot be used")
)

// ErrDamaged says that the server cannot give data back: it is damaged or missing
// in the store.
var ErrDamaged = errors.New("the backup is damaged")

// MixedError says that the target is neither what it was before the first restore
// nor what it should be. The journal stays.
type MixedError struct {
	Target string
	Mix    Mix
	Err    error
}

func (e *MixedError) Error() string {
	return fmt.Sprintf("%v\n%s is %v\nrun the same command again: %s tells it where to go on", e.Err, e.Target, e.Mix, e.Mix.Journal)
}

func (e *MixedError) Unwrap() error { return e.Err }

// VerifyError says that the target differs after all was written.
type VerifyError struct {
	Target string
	Bytes  int64 // in blocks of 64 KiB that differ
	First  int64 // offset of the first
	Mapped bool  // only a part of the target was compared
}

func (e *VerifyError) Error() string {
	text := fmt.Sprintf("verification: %d bytes of %s differ, the first at %d", e.Bytes, e.Target, e.First)
	if e.Mapped {
		return text + ": what was said to have changed was not all. Run again without --dirty and --bitmap: everything is compared then"
	}
	return text + ": somebody else writes to it, or its disk is broken"
}

// String is the reference.
func (r Ref) String() string { return r.VM + "/" + r.Disk + "@" + r.Point }

// Mix is what an interrupted restore has left in a target.
type Mix struct {
	Refs    []Ref     `json:"refs"`           // whose content may be in it, the last one at the end
	Begun   time.Time `json:"begun"`          // the last one
	Bytes   int64     `json:"touched_bytes"`  // where that may be
	Ranges  int       `json:"touched_ranges"` // in how many places
	Journal string    `json:"journal"`
}

// String tells it to an operator.
func (m Mix) String() string {
	refs := make([]string, len(m.Refs))
	for i, r := range m.Refs {
		refs[i] = r.String()
	}
	what, verb := "a restore of ", "is"
	if len(refs) > 1 {
		what, verb = "restores of ", "are"
	}
	return fmt.Sprintf("a mix: %s%s, begun %s, %s incomplete; up to %d bytes in %d places may be of that, the rest is what was there before",
		what, strings.Join(refs, ", then of "), m.Begun.UTC().Format("2006-01-02 15:04:05Z"), verb, m.Bytes, m.Ranges)
}
