package volume

// DiskImport is a disk that arrives as a file; Size is in bytes. The fields are
// those of StartRequest.
type DiskImport struct {
	Disk             string
	Size             int64
	Mode             string
	Parent           string
	ParentCheckpoint string
	Checkpoint       string
	Branch           bool
	Source           string // name of the file that is understood as this disk; "" none
}

// AddDisk adds a disk to a session for files, empty or inheriting as Start
// decides it. It is durable, but not kept when the server restarts before the
// session was committed: then it is as if it had never been added.
func (m *Manager) AddDisk(session string, r DiskImport) (*Disk, error) { return nil, errUnfinished }

// DropDisk takes an added disk away: the session is as before AddDisk.
func (m *Manager) DropDisk(session, disk string) error { return errUnfinished }

// CopyBlocks makes n bytes of the disk from byte to on what the file has from
// byte from on. No data moves. from and to are multiples of the block size
// (64 KiB), and so is n, unless it ends at the disk's or the file's end. From
// then on nobody can change the file or remove it (ErrInUse) until the disk is
// dropped or the session has ended.
func (x *Disk) CopyBlocks(f *File, from, to, n int64) error { return errUnfinished }
