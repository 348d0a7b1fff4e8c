package files

import (
	"fmt"

	"github.com/strongroom-backup/strongroom/volume"
)

// writing is what is known of those who write a file. A client that has closed
// what it wrote has written all it wanted to. One whose connection or server
// ended before may not have, and nobody would notice: such a file is not
// committed.
type writing struct {
	told   bool   // the volume has it that the file is not whole
	synced bool   // nothing was written since the last sync
	gone   bool   // who wrote it last went without closing it
	broken string // why writes acknowledged before a restart may be missing
}

// tell lets the volume know that the file is being written, before anything is.
// The caller holds op.
func (n *node) tell() error {
	n.w.synced = false
	if n.w.told && !n.w.gone {
		return nil
	}
	if err := n.f.SetState(volume.Writing); err != nil {
		return err
	}
	n.w.told, n.w.gone = true, false
	return nil
}

// begin is tell for who has just made the file or will empty it.
func (n *node) begin() error {
	n.op.Lock()
	defer n.op.Unlock()
	return n.tell()
}

// left is the end of a writer, whose writes are stored: whether he closed the
// file, and whether he was the last. A file that lacks what was acknowledged
// before a restart becomes whole only by being emptied and written again.
func (n *node) left(closed, last bool) error {
	n.op.Lock()
	defer n.op.Unlock()
	state := volume.Whole
	if !closed {
		state, n.w.gone = volume.Left, true
	}
	switch {
	case !n.w.told || n.w.broken != "" || n.links.Load() == 0 || n.failure() != nil:
		return nil
	case closed && (!last || n.w.gone):
		return nil
	}
	if err := n.f.SetState(state); err != nil {
		return err
	}
	n.w.told = !closed
	if n.w.synced { // what was durable stays so
		return n.f.Flush()
	}
	return nil
}

// unfinished says why the file may lack what was to be written to it.
func (n *node) unfinished() error {
	n.op.Lock()
	defer n.op.Unlock()
	why := n.w.broken
	switch {
	case !n.w.told:
		return nil
	case why != "":
	case n.w.gone:
		why = "the connection that wrote it ended before the file was closed"
	default:
		why = "whoever wrote it has not closed it"
	}
	return fmt.Errorf("%s; send it again, or remove it", why)
}
