package main

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/strongroom-backup/strongroom/internal/units"
)

// checkSpace refuses a run that would fill the disk. All rows together hold at
// most the image, two changed copies or two restored ones, and four packed
// forms of it; a new image is staged as files first.
func checkSpace(dir string, size int64) error {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return fmt.Errorf("free space of %s: %w", dir, err)
	}
	free, need := int64(s.Bavail)*s.Bsize, 6*size+int64(units.GiB)
	if free < need {
		return fmt.Errorf("%s has %v free, a disk of %v needs %v: choose another --dir or a smaller --size",
			dir, units.Size(free), units.Size(size), units.Size(need))
	}
	return nil
}

// touchMemory makes the kernel own as many pages as a run will cache. A page
// that a virtual machine uses for the first time costs its host a fault, which
// the first contender alone would pay.
func touchMemory(size int64) error {
	n := min(4*size, memory("MemFree")/4*3) &^ (1<<20 - 1)
	if n == 0 {
		return nil
	}
	p, err := unix.Mmap(-1, 0, int(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_POPULATE)
	if err != nil {
		return fmt.Errorf("touch %v of memory: %w", units.Size(n), err)
	}
	return unix.Munmap(p)
}
