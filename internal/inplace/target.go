package inplace

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/strongroom-backup/strongroom/internal/nbdclient"
)

// Kind is what a target is.
type Kind string

// Kinds of targets.
const (
	File   Kind = "file"
	Device Kind = "block device"
	NBD    Kind = "NBD export"
)

// Target is a disk that is overwritten. All but Close may be called concurrently.
type Target interface {
	Kind() Kind
	// Name is what it is called in messages.
	Name() string
	// Identity is the same for every way to name the target, and the same tomorrow.
	Identity() string
	Size() int64
	// Truncate gives a file another size, bytes.
	Truncate(size int64) error
	io.ReaderAt
	io.WriterAt
	// Zero makes a range read as zeros, and lets go of its space where that can be.
	Zero(off, n int64) error
	// Extents tells which parts of a range are known to be zeros.
	Extents(off, n int64, yield func(off, n int64, zero bool) error) error
	// Sync returns when all that was written is durable.
	Sync() error
	// Forget drops what is cached of the target where it can, so that reading reads
	// what is stored.
	Forget()
	io.Closer
}

// IsNBD reports whether a target's name is an NBD URI.
func IsNBD(name string) bool {
	scheme, _, ok := strings.Cut(name, "://")
	return ok && (strings.HasPrefix(scheme, "nbd"))
}

// Open opens a target for overwriting: an NBD URI, or a path. It refuses, with
// ErrBusy, a file or device that a QEMU process has open and a device that is
// mounted, and keeps QEMU from opening it until it is closed. ctx ends an NBD
// connection.
func Open(ctx context.Context, name string) (Target, error) {
	if IsNBD(name) {
		return openNBD(ctx, name)
	}
	return openFile(name)
}

// DefaultJournal is where the journal of a target is: beside a file; of others in
// the user's state directory, under a hash of the identity.
func DefaultJournal(t Target) (string, error) {
	if t.Kind() == File {
		dir, name := filepath.Split(t.Identity())
		return filepath.Join(dir, "."+name+".strongroom-inplace"), nil
	}
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) { // the specification says to ignore others
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("no place for the journal: %w; name one with --journal", err)
		}
		state = filepath.Join(home, ".local", "state")
	}
	dir := filepath.Join(state, "strongroom")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the directory of the journal: %w; name another with --journal", err)
	}
	return filepath.Join(dir, "inplace-"+fingerprint(t.Identity())+".journal"), nil
}

// nbdTarget is an NBD export.
type nbdTarget struct {
	*nbdclient.Conn
	uri      string
	identity string
}

func openNBD(ctx context.Context, uri string) (Target, error) {
	to, err := nbdclient.ParseURI(uri)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTarget, err)
	}
	conn, err := nbdclient.Dial(ctx, to)
	if err != nil {
		return nil, err
	}
	if conn.ReadOnly() {
		conn.Close()
		return nil, fmt.Errorf("%w: %s is a read-only export", ErrTarget, uri)
	}
	if err := checkSize(uri, conn.Size()); err != nil {
		conn.Close()
		return nil, err
	}
	return &nbdTarget{Conn: conn, uri: uri, identity: to.Network + " " + to.Address + " " + to.Export}, nil
}

func checkSize(name string, size int64) error {
	if size < 1 || size > sizeMax {
		return fmt.Errorf("%w: %s has %d bytes", ErrTarget, name, size)
	}
	return nil
}

func (t *nbdTarget) Kind() Kind       { return NBD }
func (t *nbdTarget) Name() string     { return t.uri }
func (t *nbdTarget) Identity() string { return t.identity }
func (t *nbdTarget) Sync() error      { return t.Flush() }
func (t *nbdTarget) Forget()          {}

func (t *nbdTarget) Truncate(int64) error {
	return fmt.Errorf("%w: the size of an NBD export cannot be changed by its client", ErrSize)
}

// stateZero is NBD_STATE_ZERO of base:allocation.
const stateZero = 2

func (t *nbdTarget) Extents(off, n int64, yield func(off, n int64, zero bool) error) error {
	return t.Status(nbdclient.Allocation, off, n, func(off, n int64, flags uint32) error {
		return yield(off, n, flags&stateZero != 0)
	})
}
