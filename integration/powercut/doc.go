// Package powercut tests the whole engine (volume over catalog and dedup over
// tier) on a file system that loses power.
//
// A driver backs up a few VMs: several sessions at a time, fulls and
// incrementals, partial writes, zeros, flushes, commits, aborts, and everything
// of a point's life: trash, undelete, removal, holds, locks, merges, policies,
// collections. A model beside it knows what every call that returned has
// promised. At every k-th write operation of the engine the file system is
// cloned as a power cut or a SIGKILL at that moment would leave it; each clone is
// opened by a new engine and held against the model as it was at the moment of
// the cut:
//
//   - the engine opens without a hand; opening it again changes nothing
//   - every committed point is there and every byte of it right, in the trash
//     too; holds, locks and policies are as they were set; a call under way has
//     got through whole or not at all
//   - a session comes back with every acknowledged write, or dead; it may only
//     die of a power cut, and not when it was flushed
//   - what came back goes on: sessions are written to, committed and read
//   - a second cut during recovery or after is held to the same
//
// TestActsCut takes the operations that change the store one by one, garbage
// collection, compaction, compressing later, repair and rebuild among them, and cuts each at its
// steps, two cuts in a row; every state is opened twice, and the second opening
// must change nothing. TestActsFail lets the steps fail instead: EIO, ENOSPC,
// short writes, syncs that drop what they should save, errors after the effect,
// once and for ever. Nothing may be acknowledged that a restart does not find,
// and no file may be used on after its sync failed. Other tests let single I/O
// operations of long runs fail, and fill the disk.
//
// Every test prints its seed; STRONGROOM_SEED repeats it as far as goroutines
// allow, and STRONGROOM_SOAK=n runs n times as long. A state that fails is
// described by its operation; with STRONGROOM_KEEP=DIR it is saved there.
package powercut
