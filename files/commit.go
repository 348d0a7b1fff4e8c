package files

import (
	"context"

	"github.com/strongroom-backup/strongroom/volume"
)

// CommitOptions say how a session's files become images. The fields but Progress
// are what volume.StartRequest has of the same names; they hold for every disk
// for which manifest.json says nothing else.
type CommitOptions struct {
	Mode                     string // full, incremental or auto (also "")
	Parent, ParentCheckpoint string
	Checkpoint               string
	Branch                   bool
	// Progress is called as images are made, with bytes of disks; nil: nobody
	// listens. It must return soon and may be called from several goroutines.
	Progress func(done, total int64)
}

// Commit makes a recovery point of a session: its files, and the disk images
// among them as images of the VM's disks. Nobody can change the folder
// meanwhile. When it fails the session goes on and its folder is as before.
func (s *Service) Commit(ctx context.Context, session string, o CommitOptions) (volume.Receipt, error) {
	return volume.Receipt{}, errUnfinished
}

func (s *Service) commitRenamed(user string, f *folder, from, to, conn string) error {
	return errUnfinished
}
