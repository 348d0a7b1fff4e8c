// Package volume is a mutable disk over immutable chunks: backup sessions with
// their writable disks, and readers of committed images.
//
// # A session on disk
//
// A session is a folder named by its id:
//
//	session.json     who, what, state; replaced whole and synced at every change
//	<disk>.journal   where each write of that disk lies
//
// A journal is a 64-byte header and records, all little-endian:
//
//	header  0  "SRJRNL\0\1"         8  u16 version = 1     10  6 zero bytes
//	       16  u64 disk size       24  16 random bytes, the salt
//	       40  u32 CRC-32C of whose it is   44  16 zero bytes   60  u32 CRC-32C of bytes 0…59
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
// A commit announces itself in session.json with the point's id before the
// catalog writes that point, so that a restart can tell which side of the
// commit a crash fell on.
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
// Blocks that a session overwrote may be collected at once. Its journal names
// them still; after a restart only what the last state of the map leads to must
// be there. roots.go says how a garbage collection finds what sessions need.
//
// # Memory
//
// What a session knows of a chunk is one address per block, 8 KiB. Only the
// chunks touched last are in memory; the others wait in the journal as chunk
// records. Blocks written in part keep their raw bytes in the journal and a list
// of extents in memory until they are covered, too many, or committed.
//
// # Locks, in the order they may be taken
//
//	Manager.points shared while a session begins or an image is opened, exclusive
//	               while a point goes, so that neither misses the other
//	session.verb   one commit, abort or expiry of a session at a time
//	session.gate   shared by every operation on a disk, exclusive while a session ends
//	disk.mu        a disk's journal and maps; held while a record is appended and applied
//	Manager.mu     the tables of sessions and exports; nothing else is taken under it but session.mu
//	session.mu     the session's state
//	addrCache.mu, pins.mu   leaves
//
// Every operation on a disk, and every commit, counts itself in epochs while it
// is under way (epoch.go); that takes no lock.
//
// Storing data (hashing, compressing, appending to packs) happens before disk.mu
// is taken, except for the merging of partial blocks.
package volume
