// Package qsd runs a qemu-storage-daemon: the block layer of a stock QEMU
// without a guest. Tests, the demo and benchmarks push real backup jobs with it.
//
// A Daemon holds disks (a format node over a file node, exported writable over
// NBD on a unix socket so that a "guest" can write while a job runs), targets
// (NBD client nodes) and jobs between them. Recipes of a backup tool are
// composed of the Action values and Transaction:
//
//	full         AddBitmap + Backup{Sync: "full"} in one transaction
//	incremental  Backup{Sync: "incremental", Bitmap: b}
//	rotation     AddBitmap(new) + DisableBitmap(old) + Backup{Sync: "bitmap", Bitmap: old, BitmapMode: "never"};
//	             then RemoveBitmap(old), or MergeBitmap(old ← new) + EnableBitmap(old) + RemoveBitmap(new)
//
// A Daemon has no lock of its own: its monitor serialises.
package qsd
