// Package volume is a mutable disk over immutable chunks: backup sessions with
// their writable disks and files, clones, and readers of committed images.
//
// # A session on disk
//
// A session is a folder named by its id:
//
//	session.json     who, what, state; replaced whole and synced at every change
//	<disk>.journal   where each write of that disk lies
//	_<id>.journal    the same of a file
//
// A journal is a 64-byte header and records, all little-endian:
//
//	header  0  "SRJRNL\0\1"         8  u16 version = 1     10  6 zero bytes
//	       16  u64 disk size       24  16 random bytes, the salt
//	       40  u32 CRC-32C of whose it is   44  u64 number of the first record   52  8 zero bytes
//	       60  u32 CRC-32C of bytes 0…59
//
//	record  0  u32 payload length   4  u8 type              5  3 zero bytes
//	        8  u64 record number   16  payload             then u32 CRC-32C of
//	           the salt and everything before it in the record
//
//	type 1 map    4 × u64: bytes written, zeroed, new, stored; then per run
//	              {u64 first block, u64 address, u32 blocks}
//	type 2 raw    u64 byte offset, the bytes: less than a block, within one
//	type 3 zero   u64 byte offset, u64 length, u8 1 when sent as data
//	type 4 chunk  u32 chunk, then per run {u16 block, u16 blocks-1, u64 address}:
//	              all that is known of the chunk, which left memory
//	type 5 clean  every record before is power-cut safe, its packs too
//	type 6 dirty  synced before the first acknowledgement after a clean
//	type 7 file   u64 length, i64 modified in Unix nanoseconds, u32 permission bits and state
//	type 8 mark   in clones, instead of 5 and 6: u64 n, u64 m: records below n are
//	              power-cut safe, their packs too; those below m were synced before
//
// Replay applies records in order and ends at the first that is not valid. If a
// crash explains what stands there (journalend.go), its write was never
// acknowledged and it is overwritten with zeros; else the journal is damaged and
// the session dead.
// The salt keeps bytes a client wrote from ever passing for a record.
//
// # What survives
//
// A write is acknowledged after its data (in packs) and its record are with the
// kernel, so a crash of the server loses nothing. Flush syncs the packs, then
// the journal with a clean mark behind the last record. When the host has
// restarted since (BootID), a journal that ends in a clean mark lost nothing;
// one that does not may have, and its session is dead for ever.
//
// For a session's files the same holds file by file. One whose journal does not
// end in a clean mark is as it was at the last of them, so what a client flushed
// is there; unless a collection has taken blocks that were overwritten since, or
// the journal is damaged: then the file is lost. Neither is committed, nor is a
// file whose writer has not closed it (File.SetState): it has to be sent again or
// removed.
//
// A commit announces itself in session.json with the point's id before the
// catalog writes that point, so that a restart can tell which side of the
// commit a crash fell on.
//
// # Clones
//
// A clone is a session whose disks begin as the images of a point, its base, and
// whose clients are guests rather than backup jobs. It does not expire. It ends
// when it is sealed, which is a commit, or discarded, which is an abort.
//
// A backup that lost acknowledged writes is dead, since its job cannot know what to
// send again. A guest can go on after that, as after a power cut of its own, if it
// is started anew. So a clone becomes stale instead (stale.go): its tokens are
// refused for ever, because the guest that holds one knows of writes that are gone;
// and ResumeClone makes others, of disks that are as they were when they were
// flushed last. Every flush leaves a mark in the journal for that, also when writes
// go on meanwhile. What was overwritten since the last of them stays a root of the
// garbage collection (retired.go), in a list that makes the disk flush itself when
// it becomes long.
//
// A sync that fails makes a clone stale, too. It is resumed in journals of its own:
// nothing is written to a file whose sync has failed, and nothing over records that
// may still be needed.
//
// Since a clone may live for long, its journal is written anew when it has grown
// (rewrite.go), beside the guest's reads and writes but for a moment at the end. It
// then has a record for each chunk that was touched, and raw bytes that are still to
// be merged, of which there are 256 MiB at most. It is done again when it takes twice
// that, and more than 64 MiB; writers wait a little when it takes four times that.
//
// A clone whose journal is damaged is dead. Its folder, and what could be read of
// the journals, is kept until somebody discards it, and looked at again at every
// start.
//
// # Files
//
// A session that was started for files keeps, besides disks, files that grow and
// shrink. A file is a disk of 64 TiB (fileend.go) with a length: what lies behind
// the length is zero, always. A write that makes it grow logs the length first, so
// that nothing a crash leaves lies behind it; a record with a smaller length takes
// away what was behind it in the same step. Only when an image is made of a file
// does its end matter otherwise.
//
// Names lead to files (filenames.go), several to one perhaps, and a file without
// a name stays until nobody has it open. Names are in session.json alone: every
// change of them writes it anew. A journal is there before its file is named, and
// goes after it was; those that nobody names are removed when the server starts.
//
// What a client sent as a file is understood by somebody else, who adds the disk
// (import.go) and says which blocks of the file are which of the disk. CopyBlocks
// then writes the addresses of the file's blocks into the disk's map. From then
// on nobody can change the file or take its last name away, until the disk is
// dropped or the session ends. A disk that was added does not survive a restart of
// the server: whether all was copied is not known. Commit makes a point of the
// disks and of the files as they came.
//
// # What a session needs of others
//
// An incremental image inherits from its parent's, so a point is not removed,
// put into the trash or merged away while an open session has it as parent. The
// parent is the newest image of the disk, or with StartRequest.Branch the older
// one that the VM was set back to. A full image is only compared with the newest
// one, its hint; when that goes meanwhile, it costs time. An open Image keeps the
// content of its point, not the point: it may be removed, and is forgotten when
// the last reader has closed.
//
// Blocks that a backup overwrote may be collected at once. Its journal names
// them still; after a restart only what the last state of the map leads to must
// be there. roots.go says how a garbage collection finds what sessions need.
//
// # Memory
//
// What a session knows of a chunk is one address per block, 8 KiB. Only the
// chunks touched last are in memory; the others wait in the journal as chunk
// records. Blocks written in part keep their raw bytes in the journal and a list
// of extents in memory until they are covered, too many, or committed. A disk of a
// clone has the list of what was overwritten besides, some MiB at most.
//
// What readers of images will want next is read ahead (package readahead) within
// one budget for all of them, and only while the image is open: Close waits for
// it before the point is let go.
//
// # Locks, in the order they may be taken
//
//	Manager.points shared while a session begins or an image is opened, exclusive
//	               while a point goes, so that neither misses the other
//	session.verb   one commit, abort, expiry or resumption of a session at a time
//	session.gate   shared by every operation on a disk, a file or a name, exclusive
//	               while a session ends or an added disk is dropped
//	cloneDisk.flushing  a write that makes a disk of a clone flush itself
//	disk.syncing   one sync of a journal at a time, and the moment it is replaced
//	session.saving session.json, and the names and disks it says there are
//	disk.mu        a disk's or file's journal and maps; held while a record is appended and applied
//	Manager.mu     the tables of sessions and exports; nothing else is taken under it but session.mu
//	session.mu     the session's state, its tables of disks, files and names; held for moments
//	addrCache.mu, pins.mu, readahead.Reader.mu   leaves
//
// disk.mu and the last two are never held together.
//
// Every operation on a disk or file, and every commit, counts itself in epochs while it
// is under way (epoch.go); that takes no lock.
//
// Storing data (hashing, compressing, appending to packs) happens before disk.mu
// is taken, except for the merging of partial blocks.
package volume
