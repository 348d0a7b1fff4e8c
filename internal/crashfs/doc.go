// Package crashfs is an in-memory file system that can lose power.
//
// It implements Pebble's vfs.FS, so that everything Strongroom keeps (packs,
// journals, the metadata log, both databases) can run on it in a test. At any
// operation a test may ask for the file system as it would be found after a
// power cut or after the death of the process, without disturbing the run:
//
//	fs := crashfs.New()
//	fs.Observe(func(at *crashfs.Instant) {
//		if at.Op.Seq%7 == 0 {
//			states = append(states, at.Crash(rng, crashfs.Random))
//		}
//	})
//
// # What is durable
//
// File data is durable per 512-byte sector. Writes are remembered until the
// file's Sync or SyncData returns; a power cut picks, for each dirty sector on
// its own, any of the versions it had since the last sync, which covers
// dropped, reordered and torn writes. The size is anything between the durable
// and the current one, so that a lost tail may be missing or read as zeros.
//
// Directory entries are durable only after a Sync of the directory, whatever
// was synced of the file. Until then a power cut forgets creates, links,
// mkdirs, removes and renames: in each directory those after some point, as a
// journaling file system does, or any of them, each on its own, in the
// directories that Profile.Paranoid names. (Pebble creates a manifest, then
// the marker that names it, then removes the old marker, and only then syncs
// the directory: it relies on the order.) A rename inside one directory is
// atomic; across two directories the new name may come without the old one
// going, and if only the old directory was synced the file may have no name at
// all.
//
// Kill clones the file system as the next process finds it after SIGKILL:
// every write is there, but what was not synced still is not. KillDuring cuts
// the last write short, as a signal between two pages of it does.
//
// # Faults
//
// Inject makes chosen operations fail before or after their effect, writes
// fall short, or a sync fail the way Linux does: the dirty pages are dropped
// from write-back though the page cache still shows them, and the next sync
// reports success. SetCapacity makes a small disk.
//
// # Files and locks
//
//	fs.go       the vfs.FS methods            crash.go        power cuts: profiles
//	file.go     open handles                  crash_names.go  which names survive one
//	dir.go      entries and their un-synced   crash_data.go   which bytes survive one
//	            changes                       kill.go         the death of the process
//	inode.go    files and their dirty writes  fault.go        failing operations
//	content.go  copy-on-write pages           trace.go        operations, observers, golden text
//	                                          check.go        rules over a trace
//
// One lock guards a whole FS; observers run under it, so they must not call
// the FS they observe, only the Instant they are given. Clones share immutable
// pages with their origin and nothing else.
package crashfs
