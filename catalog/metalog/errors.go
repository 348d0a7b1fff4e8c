package metalog

import (
	"errors"
	"fmt"
)

// ErrCorrupt is matched by every error that means stored bytes are damaged or
// missing.
var ErrCorrupt = errors.New("damaged")

// ErrNewer is matched when a file was written by a newer version of the
// program. Nothing has been changed.
var ErrNewer = errors.New("written by a newer version of strongroom")

// A DamageError says where the log is damaged.
type DamageError struct {
	File   string
	Offset int64
	Reason string
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("metadata log %s is damaged at byte %d: %s; "+
		"put an intact copy of the file in its place (every tier holds one) and start again",
		e.File, e.Offset, e.Reason)
}

// Is makes errors.Is(err, ErrCorrupt) true.
func (e *DamageError) Is(target error) bool { return target == ErrCorrupt }

// A SyncError is the end of writing to a log: whether its last transaction is
// durable is known only after the log has been opened again.
type SyncError struct {
	File string
	Err  error
}

func (e *SyncError) Error() string {
	return fmt.Sprintf("metadata log %s could not be synced: %v; check the disk, then restart the server: "+
		"the transaction being written will be there whole or not at all", e.File, e.Err)
}

func (e *SyncError) Unwrap() error { return e.Err }
