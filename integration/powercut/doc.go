// Package powercut tests the whole engine (volume over catalog and dedup over
// tier) on a file system that loses power.
//
// A driver backs up a few VMs: several sessions at a time, fulls and
// incrementals, partial writes, zeros, flushes, commits, aborts, removals. A
// model beside it knows what every call that returned has promised. At every
// k-th write operation of the engine the file system is cloned as a power cut
// or a SIGKILL at that moment would leave it; each clone is opened by a new
// engine and held against the model as it was at the moment of the cut:
//
//   - the engine opens without a hand; opening it again changes nothing
//   - every committed point is there and every byte of it right; there is no
//     other, but that a commit or removal under way may have got through, whole
//   - a session comes back with every acknowledged write, or dead; it may only
//     die of a power cut, and not when it was flushed
//   - what came back goes on: sessions are written to, committed and read
//   - a second cut during recovery or after is held to the same
//
// Other tests let single I/O operations fail instead, and fill the disk.
//
// Every test prints its seed; STRONGROOM_SEED repeats it as far as goroutines
// allow, and STRONGROOM_SOAK=n runs n times as long. A state that fails is
// described by its operation; with STRONGROOM_KEEP=DIR it is saved there.
package powercut
