package inplace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/strongroom-backup/strongroom/internal/hashstream"
	"github.com/strongroom-backup/strongroom/internal/nbdclient"
)

// Ref is the disk of a point that a target is to become.
type Ref struct {
	VM    string `json:"vm"`
	Disk  string `json:"disk"`
	Point string `json:"point"` // an id
}

// Source is the chosen point's disk. *nbdclient.Conn is one. ReadAt is called
// concurrently; an error of the store wraps EIO.
type Source interface {
	Size() int64
	ReadAt(p []byte, off int64) (int, error)
}

// Restore is one overwrite recovery.
type Restore struct {
	Ref     Ref
	Source  Source
	Target  Target
	Journal string // path; see DefaultJournal
	Resize  bool   // give a file the disk's size
	// Hashes opens the stream (internal/hashstream) of the chosen disk.
	Hashes func(context.Context) (io.ReadCloser, error)
	// Dirty is all that may differ; nil: nothing is known, everything is compared.
	Dirty *Dirty
	// Verify compares the whole target when all is written.
	Verify bool

	// Found is told what an interrupted restore has left. Begin is told that a phase
	// begins, and how many bytes of the disk it goes through; Progress each part of
	// them, concurrently. All may be nil.
	Found    func(Mix)
	Begin    func(p Phase, total int64)
	Progress func(n int64)
}

// Phase is a part of a Restore.
type Phase string

// Phases, in order.
const (
	Comparing Phase = "comparing"
	Writing   Phase = "writing"
	Verifying Phase = "verifying"
)

// Result is what a Restore did. Bytes are of the disk.
type Result struct {
	VM     string `json:"vm"`
	Disk   string `json:"disk"`
	Point  string `json:"point"`
	Target string `json:"target"`
	Kind   Kind   `json:"kind"`
	Size   int64  `json:"size"`
	Was    int64  `json:"size_before"` // of the target

	Mapped   bool  `json:"mapped"`         // a map said where to look
	Compared int64 `json:"compared_bytes"` // looked at
	Skipped  int64 `json:"skipped_bytes"`  // not looked at, because the map says that they are the same
	Fetched  int64 `json:"fetched_bytes"`  // read from the server
	Written  int64 `json:"written_bytes"`  // differed, and now are data
	Zeroed   int64 `json:"zeroed_bytes"`   // differed, and now are zeros
	Verified bool  `json:"verified"`

	// Found is what an interrupted restore had left there before.
	Found *Mix `json:"found,omitempty"`
	// Mixed is what this one leaves there; nil: the target is what it should be, or,
	// after an error, what it was.
	Mixed *Mix `json:"mixed,omitempty"`
}

// run is a Restore under way.
type run struct {
	Restore
	size    int64
	journal *journal
	now     *state // what the journal says; nil: nothing
	work    *Ranges
	started func() error // writes the journal, once

	fetched, written, zeroed atomic.Int64
}

// Run makes the target what the chosen disk is. When it returns nil that is
// durable, and the journal is gone. After an error the target is what it was,
// unless the error is a *MixedError or a *VerifyError: then the journal stays, and
// the next Run goes on. The target must be used by nobody else meanwhile.
func (r Restore) Run(ctx context.Context) (Result, error) {
	x := &run{Restore: r, size: r.Source.Size()}
	x.started = sync.OnceValue(x.start)
	res := Result{VM: r.Ref.VM, Disk: r.Ref.Disk, Point: r.Ref.Point, Target: r.Target.Name(), Kind: r.Target.Kind(), Size: x.size, Was: r.Target.Size()}
	var err error
	if x.journal, err = openJournal(r.Journal); err != nil {
		return res, err
	}
	defer x.journal.close()
	if x.now = x.journal.old; x.now != nil {
		res.Found = x.now.mix(r.Journal)
		if r.Found != nil {
			r.Found(*res.Found)
		}
	}
	err = x.check()
	if err == nil {
		err = x.do(ctx, &res)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	res.Fetched, res.Written, res.Zeroed = x.fetched.Load(), x.written.Load(), x.zeroed.Load()
	if err != nil && x.now != nil {
		res.Mixed = x.now.mix(r.Journal)
		err = &MixedError{Target: r.Target.Name(), Mix: *res.Mixed, Err: err}
	}
	return res, err
}

// check refuses what would be a mistake. Nothing has been written.
func (x *run) check() error {
	t, old := x.Target, x.now
	if old != nil && old.Target != t.Identity() && (t.Kind() != File || filepath.Base(old.Target) != filepath.Base(t.Identity())) {
		return fmt.Errorf("%w: %s is of %s, not of %s", ErrJournal, x.Journal, old.Target, t.Identity())
	}
	if err := checkSize("the disk", x.size); err != nil {
		return err
	}
	switch have := t.Size(); {
	case have == x.size:
	case t.Kind() != File:
		return fmt.Errorf("%w: %s has %d bytes, the disk %d; give it that size first", ErrSize, t.Name(), have, x.size)
	case !x.Resize:
		return fmt.Errorf("%w: %s has %d bytes, the disk %d; --resize changes that", ErrSize, t.Name(), have, x.size)
	}
	if err := x.checkDirty(); err != nil {
		return err
	}
	return x.checkFormat()
}

// checkDirty refuses a map of another disk. A target that was given another size
// by a restore that was interrupted may come with a map of what it was.
func (x *run) checkDirty() error {
	if x.Dirty == nil {
		return nil
	}
	have, was := x.Target.Size(), int64(0)
	if x.now != nil {
		was = x.now.Was
	}
	switch d := x.Dirty; {
	case d.Size != 0 && d.Size != have && d.Size != was:
		return fmt.Errorf("%w: it maps a disk of %d bytes; %s has %d", ErrDirty, d.Size, x.Target.Name(), have)
	case d.End > max(have, was):
		return fmt.Errorf("%w: it has a range that ends at %d; %s has %d bytes", ErrDirty, d.End, x.Target.Name(), have)
	}
	return nil
}

// qcow2Magic begins an image file of that format.
const qcow2Magic = "QFI\xfb"

// checkFormat refuses a qcow2 file: what is restored is its content.
func (x *run) checkFormat() error {
	n := len(qcow2Magic)
	if x.Target.Kind() == NBD || x.Target.Size() < int64(n) || x.size < int64(n) {
		return nil
	}
	have, want := make([]byte, n), make([]byte, n)
	if _, err := x.Target.ReadAt(have, 0); err != nil || string(have) != qcow2Magic {
		return err
	}
	if err := x.fetch(want, 0); err != nil || string(want) == qcow2Magic {
		return err
	}
	return fmt.Errorf("%w: %s is a qcow2 image, and the disk within it has to be restored: "+
		"qemu-nbd --persistent --socket=SOCKET %s, then --in-place 'nbd+unix:///?socket=SOCKET'", ErrTarget, x.Target.Name(), x.Target.Name())
}

func (x *run) do(ctx context.Context, res *Result) error {
	mapped := x.Dirty != nil && (x.now == nil || !x.now.Unsure)
	var err error
	if mapped {
		x.work = x.candidates()
		res.Mapped, res.Compared = true, x.work.Bytes()
		res.Skipped = x.size - res.Compared
	} else {
		x.begin(Comparing, x.size)
		if x.work, err = x.compareAll(ctx); err != nil {
			return err
		}
		res.Compared = x.size
	}
	if err := x.resize(); err != nil {
		return err
	}
	x.begin(Writing, x.work.Bytes())
	if err := x.overwrite(ctx, x.work); err != nil {
		return err
	}
	if err := x.Target.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", x.Target.Name(), err)
	}
	if x.Verify {
		if err := x.verify(ctx, mapped); err != nil {
			return err
		}
		res.Verified = true
	}
	if err := x.journal.remove(); err != nil {
		return fmt.Errorf("%s is restored, but its journal stays: %w", x.Target.Name(), err)
	}
	x.now = nil
	return nil
}

// candidates is all that may differ when the map is to be believed.
func (x *run) candidates() *Ranges {
	c := NewRanges(x.size)
	c.Join(x.Dirty.Ranges)
	if x.now != nil {
		c.Join(x.now.touched)
	}
	c.Add(x.Target.Size(), x.size-x.Target.Size())
	return c
}

// resize gives the target its size.
func (x *run) resize() error {
	if x.Target.Size() == x.size {
		return nil
	}
	if err := x.started(); err != nil {
		return err
	}
	return x.Target.Truncate(x.size)
}

// start makes the journal tell what is about to be written.
func (x *run) start() error {
	next := x.now.next(x.Target, x.Ref, x.size, time.Now(), x.work)
	if err := x.journal.replace(next); err != nil {
		return fmt.Errorf("%w; nothing has been written", err)
	}
	x.now = next
	return nil
}

// verify compares everything. When something differs the journal says that no map
// is to be believed.
func (x *run) verify(ctx context.Context, mapped bool) error {
	x.Target.Forget()
	x.begin(Verifying, x.size)
	found, err := x.compareAll(ctx)
	if err != nil || found.Len() == 0 {
		return err
	}
	next := x.now.next(x.Target, x.Ref, x.size, time.Now(), found)
	next.Unsure = true
	if err := x.journal.replace(next); err != nil {
		return err
	}
	x.now = next
	return &VerifyError{Target: x.Target.Name(), Bytes: found.Bytes(), First: found.spans()[0].off, Mapped: mapped}
}

func (x *run) begin(p Phase, total int64) {
	if x.Begin != nil {
		x.Begin(p, total)
	}
}

func (x *run) progress(n int64) {
	if x.Progress != nil {
		x.Progress(n)
	}
}

// fetch reads the chosen disk.
func (x *run) fetch(p []byte, off int64) error {
	_, err := x.Source.ReadAt(p, off)
	var s *nbdclient.ServerError
	if errors.As(err, &s) && s.Errno == syscall.EIO {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// damaged tells a stream that ended because of damage from other ends.
func damaged(err error) error {
	var f *hashstream.FailureError
	if errors.As(err, &f) && f.Damage {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}
