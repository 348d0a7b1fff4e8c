// Package testdisk makes disk images worth backing up: ext4 file systems full
// of files of the machine it runs on, and the changes that using them makes.
// The choice of files is the same at every run on one machine.
//
// Images are raw and sparse. Nothing here needs root: file systems are filled
// by mke2fs and changed by debugfs (package e2fsprogs).
package testdisk
