// Package catalog remembers VMs, recovery points, images and chunk records.
//
// # What it holds
//
// A point is what one backup of a VM made: an image per disk, opaque blobs,
// labels. An image is a list of chunk numbers, one for every 64 MiB of the
// disk; a chunk record says in which packs' slots the chunk's blocks lie. So
// any block of any point is found with one list and one record. Chunks with
// equal hashes are recorded once. Every image is complete: removing a point
// never touches another.
//
// # Two places
//
// The metadata log (package metalog, on the tier beside the packs) is the
// truth. The catalog database (Pebble) is what is read, and can be rebuilt
// from the log: Open with an empty directory does it. docs/FORMAT.md describes
// both byte for byte.
//
//	Commit:  check → number chunks → log records, fdatasync   = the commit point
//	         → database batch, synced → return
//	Remove:  log a tombstone, fdatasync → database batch, synced → return
//	Open:    database's watermark → check the log from there → apply the rest
//
// The database's batch for a transaction is computed from the log's records
// alone, by one piece of code (applier), whether at Commit or at Open. Chunk
// records, chunk lists and blobs may reach the database ahead of their point,
// since nothing leads to them without it; the point or the removal, the VM's
// summary and the watermark are one batch.
//
// # When things fail
//
// A transaction whose log write failed is gone with the file it was written
// to; the next one goes to a new file. After a failed sync of the log nobody
// knows whether the transaction is durable, so the catalog takes no more
// (ErrReadOnly) until it is opened again and has looked. If the database
// cannot be written behind a synced log, Pebble calls Logger.Fatalf and the
// process ends; Open applies the transaction. Damage Pebble meets makes the
// catalog read-only, and the error says to let it be rebuilt.
//
// # Keys of the database
//
//	f                      format version, store id
//	w                      watermark: last log record applied, next chunk
//	                       number, newest time given out
//	v VM                   summary of the VM's points
//	r VM 0 time            point; time is u64 BE Unix milliseconds
//	P point                commit time and VM of a point
//	t point                when it was removed
//	i point 0 disk         chunk list
//	b point 0 name         blob
//	c number               chunk record; number is u64 BE
//	C hash                 number of the chunk of that hash
//
// Times are the server's, in milliseconds, and strictly increasing over the
// life of a catalog even if the clock is not, so every point has its own and
// "latest" is well defined.
//
// # Files
//
//	catalog.go open, close     commit.go transaction.go numberer.go remove.go
//	db.go      Pebble          apply.go  records → database
//	query.go   resolve.go ref.go cache.go stats.go read.go
//	codec.go   *codec.go vm.go watermark.go keys.go   bytes
//	validate.go limits.go      what is accepted
//
// # Locks
//
// life (RWMutex): every method holds it for reading, Close for writing.
// commit (Mutex), taken after life: Commit and Remove, one at a time. The
// applier's and the cache's mutexes are taken last and never together.
// Readers take no other lock: they see a transaction whole or not at all,
// because its point is one batch, and methods that read several keys of what
// may change use a snapshot or start from the point.
package catalog
