package catalog

import (
	"errors"

	"github.com/strongroom-backup/strongroom/catalog/metalog"
)

var (
	// ErrNotFound is matched when a VM, point, disk, blob or chunk is not
	// here; the message says what was looked for and what there is.
	ErrNotFound = errors.New("not found")
	// ErrExists is matched when a point id is or was in use.
	ErrExists = errors.New("exists already")
	// ErrInvalid is matched when Commit or ParseRef is given nonsense.
	ErrInvalid = errors.New("not valid")
	// ErrCorrupt is matched when stored bytes are damaged or missing.
	ErrCorrupt = metalog.ErrCorrupt
	// ErrNewer is matched when the files were written by a newer version of
	// the program; they have not been changed.
	ErrNewer = metalog.ErrNewer
	// ErrHeld is matched when a point on hold would go: release it first.
	ErrHeld = errors.New("held")
	// ErrLocked is matched when a point would go, or its lock be shortened,
	// before the date it is locked until.
	ErrLocked = errors.New("locked")
	// ErrReadOnly is matched by what Commit and all other changes return once a
	// sync has failed. Restart the server after looking at the disk: the transaction in
	// question will be there whole or not at all.
	ErrReadOnly = errors.New("the catalog is read-only")
)
