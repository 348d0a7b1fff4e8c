// Package dedup keeps each block of data once.
//
// A block is 64 KiB. [Writer.Put] takes blocks and gives back their addresses;
// [Store.Read] takes addresses and gives back the blocks. Blocks with equal
// keyed hashes get equal addresses, blocks of zeros the address 0. Blocks
// nobody has yet are compressed, up to four together, into a frame, at once or
// later, and frames are appended to packs of 64 MiB, which package tier keeps.
//
//	pack    header │ frame │ frame │ … │ frame │ TOC │ TOC │ footer
//	frame   header, hashes │ payload: 1…4 blocks, zstd, raw or raw for now
//	TOC     which slot has which hash and lies in which frame
//	Addr    pack number << 16 | slot: a block's place for ever
//
// docs/FORMAT.md, chapter "Packs", says every byte. Start reading with
// batch.go (how a block gets its address), request.go (how it is read), openpack.go
// and seal.go (the life of a pack) and recover.go (what Open does). Of what goes
// on later: collect.go, condemn.go and sweep.go (garbage collection), swap.go and
// rewrite.go (how a pack gets its next generation), examine.go, verify.go,
// health.go, heal.go and repair.go (damage), later.go and compress.go (what was not
// compressed when it was stored), reader.go (reading without a store).
//
// # What is true when
//
// When Put returns, the blocks are with the kernel: the death of the process
// loses nothing. When Sync returns, they survive a power cut, those included
// that Put found in a pack another writer is still filling. A footer is written
// only after the frames before it are durable, and an index entry only after
// its pack is.
//
// The packs are the truth. The block index (Pebble, no log) is a hint: an entry
// counts only when the pack's own table has the full hash at that slot. It may
// be deleted; Open builds it anew. Every block read is verified; wrong bytes are
// a [DamageError], never served.
//
// # Where a block is looked for
//
// zeros → the hint's slot → the slot after the previous block's → the blocks of
// open packs and those being stored right now (recent.go) → the block index.
// Whoever finds a block nowhere has claimed it meanwhile; others that bring the
// same block wait until the claim's batch is published, after publishing their
// own, and look again.
//
// # How blocks are read
//
// A read is planned as a whole: blocks in order of address, pack by pack, frames
// that lie together by one pread, each frame decoded once and no further than its
// last wanted block, where it goes if it can be. Large requests are shared by
// cores that have nothing to do. The decoded form of a frame is kept only when the
// caller's window of the disk (ReadWithin) shows that more of it is wanted soon, or
// for readers of single blocks and bytes. A read that fails anywhere is tried again
// block by block, so that damage is told of the block that has it and costs no
// other; then other copies are looked for.
//
// # When a disk fails
//
// After a failed fdatasync a pack is given up: nobody syncs it again, nothing is
// appended to it, blocks above its last successful sync are no dedup hits, every
// writer that depends on them fails for ever, and a note beside the pack tells
// the next process. A pack that a crash left without a footer is sealed at Open
// behind its last good frame; only packs parked by a clean Close are gone on in,
// so that no slot ever gets a second content.
//
// # Taking blocks away
//
// [Store.BeginCollection] fixes which packs may change and counts every dedup
// hit on them as a mark from then on; the caller marks what else is wanted; what
// has no mark when [Collection.Sweep] condemns its pack is dead. condemn.go has
// the proof that no writer is left with an address that goes away.
//
// A pack without a live block is forgotten by the index, durably, and removed.
// One with many dead blocks gets a next generation without them: a new file,
// written and synced, footer last, read back whole, and only then in the place
// of the old one, which is removed when its grace has passed and nobody reads
// it. A reader that finds a file gone looks where the pack is now. After any
// failure the new file is discarded and the old one is as good as before. What a
// crash leaves of that, generations.go puts in order.
//
// # Compressing later
//
// A writer of [Store.NewLaterWriter] stores frames as they are, marked by a codec
// of their own; only while the disk has little room it compresses. Hashes and
// deduplication are as ever. [Store.CompressPack] writes a sealed pack with such
// frames anew, with every slot it has, by the same steps as above: so all that is
// said of generations, readers and crashes holds, and a crash costs no more than
// the attempt. A pack with damage waits for its repair. What a compaction or a
// repair writes anew is compressed on the way.
//
// # When blocks rot
//
// A damaged block stays where it is, marked in the block index: no dedup hit any
// more, so the next backup with such a block stores it again, and from then on
// reads at the damaged address are served from the new copy. [Store.RepairPack]
// makes that last.
//
// # Locks
//
// In this order; none is held while one to its left is taken:
//
//	Store.rewriting → Writer.lanesMu → lane.mu → spare.mu → lanePool.mu → Writer.mu → openPack.mu
//	Store.collectMu
//	health.saving → health.mu
//
// Store.rewriting is held while one pack is removed, compacted, repaired or
// compressed. lane.mu is held while a batch is appended (one pwrite) and while the
// next pack is fetched. openPack.mu is let go during fdatasync. The locks of recent's
// shards, the caches, openSet, packSet, packNumbers, laterSet, graves, space,
// health and index are leaves: nothing is taken under them, but that index.blocks is taken
// under index.mu, and the leaves the index asks which copy is better under both.
// A collection's marks have no lock.
package dedup
