package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/strongroom-backup/strongroom/internal/nbdclient"
)

// Steps of a restore, as Events tell them.
const (
	StepCopy   = "restore"
	StepVerify = "verify"
)

// Events are told on the way. Each may be nil.
type Events struct {
	// Begin is told a step, and how many bytes it will read.
	Begin func(step string, bytes int64)
	// Progress is told each part of them that was done; it is called concurrently.
	Progress func(n int64)
}

func (e Events) begin(step string, bytes int64) {
	if e.Begin != nil {
		e.Begin(step, bytes)
	}
}

// Disk is one restore of a disk.
type Disk struct {
	Target nbdclient.Target
	Size   int64  // what the export must have, bytes
	Output string // a file, or a block device; not for Stream
	Format Format
	Force  bool // replace a file that is not empty, overwrite a device that is not blank
	Verify bool // read what was written once more, from the disk, and compare it
	Events Events
}

// Result is what was restored.
type Result struct {
	Data int64 // bytes read from the server; the rest is zeros
	Hash DiskHash
}

// DamageError says that the server could not give data back: it is damaged or
// missing in the store.
type DamageError struct{ Err error }

func (e *DamageError) Error() string { return "the backup is damaged: " + e.Err.Error() }

func (e *DamageError) Unwrap() error { return e.Err }

// MismatchError says that what was written does not read back as it was read from
// the server.
type MismatchError struct {
	Path   string
	Ranges []Range
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("%s does not read back as it was written, %s: its storage is faulty", e.Path, rangesText(e.Ranges))
}

// target is what a disk is written to. Its bytes are zeros, or Zero makes them so.
type target interface {
	io.WriterAt
	Zero(off, n int64) error
	// complete makes durable what was written; then content is a file to read it
	// from. Finish gives it its name, Discard does away with it.
	complete() error
	content() string
	Finish() error
	Discard()
}

// Run copies the disk. When it returns nil the output is whole and synced; when
// it returns an error a file is as it was before, and a block device, once
// anything was written to it, begins with zeros.
func (d Disk) Run(ctx context.Context) (Result, error) {
	if err := d.check(); err != nil {
		return Result{}, err
	}
	return d.with(ctx, d.copy)
}

// check finds what would fail late.
func (d Disk) check() error {
	if !IsDevice(d.Output) {
		return CheckOutput(d.Output, d.Force)
	}
	if d.Format != Raw {
		return fmt.Errorf("%s is a block device: only raw disks are written to one", d.Output)
	}
	return CheckDevice(d.Output, d.Size, d.Force)
}

// Stream writes the disk to w, in order, raw or as qcow2. When it fails, what was
// written is not a disk.
func (d Disk) Stream(ctx context.Context, w io.Writer) (Result, error) {
	return d.with(ctx, func(ctx context.Context, src Source) (Result, error) { return d.stream(ctx, src, w) })
}

// with opens the export.
func (d Disk) with(ctx context.Context, do func(context.Context, Source) (Result, error)) (Result, error) {
	conn, err := open(ctx, d.Target, d.Size)
	if err != nil {
		return Result{}, err
	}
	defer conn.Close()
	r, err := do(ctx, conn)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return r, classify(err)
}

func open(ctx context.Context, t nbdclient.Target, size int64) (*nbdclient.Conn, error) {
	conn, err := nbdclient.Dial(ctx, t)
	if err != nil {
		return nil, err
	}
	if conn.Size() != size {
		conn.Close()
		return nil, fmt.Errorf("export %s has %d bytes, but the point says %d", t.Export, conn.Size(), size)
	}
	return conn, nil
}

// classify marks the server's refusals to hand out data.
func classify(err error) error {
	var s *nbdclient.ServerError
	if errors.As(err, &s) && s.Errno == syscall.EIO {
		return &DamageError{Err: err}
	}
	return err
}

func (d Disk) copy(ctx context.Context, src Source) (r Result, err error) {
	w, err := d.Format.newWriter(src)
	if err != nil {
		return r, err
	}
	if r.Data, err = dataOf(src); err != nil {
		return r, err
	}
	d.Events.begin(StepCopy, r.Data)
	out, err := d.create(w.fileSize)
	if err != nil {
		return r, err
	}
	defer out.Discard()
	hasher := NewContentHasher(d.Size)
	err = scan(ctx, src, hasher, d.Events.Progress, func(p []byte, off int64) error { return d.writing(w.writeAt(out, p, off)) }, out.Zero)
	if err == nil {
		err = d.writing(w.finish(out))
	}
	if err == nil {
		r.Hash, err = hasher.Sum()
	}
	if err == nil {
		err = d.writing(out.complete())
	}
	if err == nil && d.Verify {
		err = d.verify(ctx, out.content(), r.Hash)
	}
	if err != nil {
		return r, err
	}
	return r, d.writing(out.Finish())
}

// writing names what is written to; the file has another name for now.
func (d Disk) writing(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("write %s: %w", d.Output, err)
}

func (d Disk) create(size int64) (target, error) {
	if IsDevice(d.Output) {
		out, err := openDevice(d.Output, d.Size, d.Force)
		if err != nil {
			return nil, err
		}
		if err := out.begin(); err != nil {
			out.Discard()
			return nil, d.writing(err)
		}
		return out, nil
	}
	out, err := Create(d.Output, d.Force)
	if err != nil {
		return nil, err
	}
	if err := out.Truncate(size); err != nil {
		out.Discard()
		return nil, fmt.Errorf("make %s %d bytes long: %w", d.Output, size, err)
	}
	return out, nil
}

func (d Disk) stream(ctx context.Context, src Source, w io.Writer) (r Result, err error) {
	hasher := NewContentHasher(d.Size)
	hashed := &hashedSource{Source: src, hasher: hasher}
	if r.Data, err = dataOf(src); err != nil {
		return r, err
	}
	if d.Format == Raw {
		d.Events.begin(StepCopy, r.Data)
		err = streamRaw(ctx, w, hashed, d.Events.Progress)
	} else if view, planErr := flatView(hashed); planErr != nil {
		err = planErr
	} else {
		d.Events.begin(StepCopy, view.Size())
		err = streamFile(ctx, w, view, view.Size(), d.Events.Progress)
	}
	if err != nil {
		return r, err
	}
	r.Hash, err = hasher.Sum()
	return r, err
}
