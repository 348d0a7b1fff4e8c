package inplace

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// QEMU tells other processes what it does to an image by shared locks on single
// bytes of it (block/file-posix.c, RAW_LOCK_PERM_BASE and RAW_LOCK_SHARED_BASE):
// byte 100+i for each permission i it uses, byte 200+i for each it does not let
// others have. A process takes its own locks first, and then looks whether others
// hold the opposite ones.
const (
	lockPermissions = 100
	lockUnshared    = 200
	lockEnd         = 300
	// lockUsed is how many bits we set: read, write, write unchanged, resize.
	lockUsed = 4
)

// lockAsQEMU keeps QEMU from opening the file, and fails with ErrBusy when one
// has it open. Closing the file lets go. Where the file system has no such locks
// it does nothing, as QEMU does.
func lockAsQEMU(f *os.File) error {
	for _, base := range []int64{lockPermissions, lockUnshared} {
		l := unix.Flock_t{Type: unix.F_RDLCK, Start: base, Len: lockUsed}
		if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l); err != nil {
			if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
				return busyQEMU(f)
			}
			return nil
		}
	}
	l := unix.Flock_t{Type: unix.F_WRLCK, Start: lockPermissions, Len: lockEnd - lockPermissions}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &l); err == nil && l.Type != unix.F_UNLCK {
		return busyQEMU(f)
	}
	return nil
}

func busyQEMU(f *os.File) error {
	return fmt.Errorf("%w: a QEMU process, or another restore, has %s open: shut the VM down, or restore into an export of that process (nbd+unix://…)",
		ErrBusy, f.Name())
}
