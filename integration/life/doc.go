// Package life tests the life of points over long random histories.
//
// A history is at least 500 operations on the whole engine (maintenance over
// volume, catalog and dedup) in one process, on a file system in memory that can
// lose power: backups are begun, written, zeroed, flushed, committed, aborted and
// branched; points cloned, clones written, flushed, sealed and discarded; files of backups made, written, cut, renamed, linked and removed, and
// disks made of them; points deleted, undeleted, held, released, locked, pruned
// and merged; garbage is collected, what was stored without is compressed,
// everything verified, both databases are deleted and made anew; the process dies
// and the power fails, between two operations or in the middle of one; images stay
// open for reading meanwhile. Every so often, and at
// the end, the engine is held against a simple model: what each disk of each
// point contains, block by block, and what was said of the point.
//
//   - every live point reads back byte for byte, with the parents it should have
//   - what is in the trash can be undeleted, what is gone is gone for good
//   - held and locked points are never gone
//   - sessions have every acknowledged write, or are dead; that only when the
//     power failed before they were flushed
//   - clones have every acknowledged write, or when the power failed every one
//     that was flushed, and are stale if there were others
//   - a second opening changes no file
//   - a catalog made anew says the same as the one that was lost
//   - the accounts are what counting everything gives
//   - when all points are gone, so is the space they took
//
// Histories run under several sets of options. In concurrent ones three VMs and
// the collection of garbage go on at the same time.
//
// Every test prints its seed; STRONGROOM_SEED repeats it as far as goroutines
// allow, and STRONGROOM_SOAK=n runs n times as many histories.
package life
