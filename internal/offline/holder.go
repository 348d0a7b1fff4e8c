package offline

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// lockHolder says which process holds a lock on a file, "" if none does or the
// file cannot be asked. Nothing is locked or made.
//
// The process itself is never told: to close a file drops all locks the process
// has on it, so a server must not ask about its own.
func lockHolder(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil || lock.Type == unix.F_UNLCK {
		return ""
	}
	if lock.Pid <= 0 { // of another PID namespace, or another host
		return "a process that cannot be seen from here"
	}
	return fmt.Sprintf("process %d", lock.Pid)
}
