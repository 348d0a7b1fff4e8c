package volume

import (
	"errors"
)

// CloneRequest says what a clone is made of.
type CloneRequest struct {
	Ref    string   // VM[/DISK][@POINT]
	Disks  []string // none: all of the point, or the one in Ref
	Labels map[string]string
}

var errUnfinishedClone = errors.New("clones are not finished")

// CreateClone makes writable disks over the images of a point. They are durable
// when it returns, and stay until the clone is sealed or discarded.
func (m *Manager) CreateClone(r CloneRequest) (Status, error) { return Status{}, errUnfinishedClone }

// ResumeClone opens a stale clone as it was when it was flushed last, under new
// tokens. The error wraps ErrClosed when it is not stale.
func (m *Manager) ResumeClone(id string) (Status, error) { return Status{}, errUnfinishedClone }

// SealClone commits a clone as a new point of its VM, as Commit does a backup.
func (m *Manager) SealClone(id string) (Receipt, error) { return Receipt{}, errUnfinishedClone }

// DiscardClone drops a clone and all that was written to it.
func (m *Manager) DiscardClone(id string) error { return errUnfinishedClone }

// Clones describes every clone remembered, oldest first.
func (m *Manager) Clones() []Status { return nil }

// Clone reports whether the disk is one of a clone.
func (x *Disk) Clone() bool { return x.d.s.file.Clone }
