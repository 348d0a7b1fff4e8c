// Package inplace makes a disk that exists what it was at a recovery point, and
// writes only what differs.
//
// A Restore goes like this:
//
//  1. Lock the journal, and read what an interrupted restore has left.
//  2. Find candidates. With a map of what may differ they are its ranges, those of
//     the journal, and what lies beyond the target's end. Without one the server
//     streams the hash of each block (internal/hashstream), the target is read
//     beside it, and the candidates are the blocks whose hashes differ. Nothing is
//     written yet, so damage in the store that is found here has done no harm.
//  3. Read the candidates on both sides, and write the pieces of 4 KiB that differ.
//     The journal is written and synced before the first of them.
//  4. Sync the target; compare all of it again when that is wanted.
//  5. Remove the journal.
//
// # The journal
//
// docs/FORMAT.md, "Restores in place", has its bytes. It tells two things: what is
// mixed with what, for people; and where, for the next restore. Outside its ranges
// the target is as before the first restore. That is what makes a map true again
// that knows nothing of interrupted restores: a map says where the target, as the
// guest left it, may differ from the chosen point; the journal says where it may
// not be as the guest left it. Both together are all that may differ. So the
// ranges only grow until a restore succeeds, also when that restore compares
// everything and needs none of them.
//
// # Who else has the target
//
// The journal's lock keeps two restores apart. Block devices are opened
// exclusively, so that none is mounted. Files and devices get the locks by which
// QEMU processes keep out of each other's images, so that a VM neither runs on the
// target nor starts on it. Nothing like that can be done for an NBD export.
//
// # Locks
//
// Ranges.mu and fileTarget.writing are leaves. Parts of 1 MiB are compared and
// written by 16 goroutines, which share atomic counters and the journal's
// beginning (sync.OnceValue).
package inplace
