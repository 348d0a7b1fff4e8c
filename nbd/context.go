package nbd

import (
	"context"
	"errors"
	"fmt"
)

// ContextExports is Exports with metadata contexts besides base:allocation.
// Errors as for Stat.
type ContextExports interface {
	Exports
	// Contexts names contexts of an export for LIST_META_CONTEXT: a bounded
	// selection, without base:allocation.
	Contexts(ctx context.Context, export string) ([]string, error)
	// HasContext says whether a client may select a context of an export.
	HasContext(ctx context.Context, export, context string) (bool, error)
}

// ContextDevice is a Device with metadata contexts.
type ContextDevice interface {
	Device
	// OpenContext opens a context a client has selected.
	OpenContext(name string) (Context, error)
}

// Context is metadata about the bytes of an export. Status is called
// concurrently, with ranges that lie within the device.
type Context interface {
	// Status calls yield for consecutive extents that begin at off and end at
	// off+n, each longer than 0. It stops early when yield returns false.
	Status(off, n int64, yield func(length int64, flags uint32) bool) error
	// Close is called once, after the last Status has returned and before the
	// device is closed.
	Close() error
}

// openContexts opens what a client has selected; base:allocation stays nil,
// because it is the device itself that tells.
func openContexts(dev Device, names []string) ([]Context, error) {
	list := make([]Context, 0, len(names))
	for _, name := range names {
		var x Context
		err := error(nil)
		if name != metaAllocation {
			x, err = openContext(dev, name)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("metadata context %q: %w", name, err), closeContexts(list))
		}
		list = append(list, x)
	}
	return list, nil
}

func openContext(dev Device, name string) (Context, error) {
	d, ok := dev.(ContextDevice)
	if !ok {
		return nil, errors.New("it is gone")
	}
	return d.OpenContext(name)
}

func closeContexts(list []Context) error {
	var errs []error
	for _, x := range list {
		if x != nil {
			errs = append(errs, x.Close())
		}
	}
	return errors.Join(errs...)
}
