// Package catalog remembers VMs, recovery points, images and chunk records.
//
// # What it holds
//
// A point is what one backup of a VM made: an image per disk, files, opaque
// blobs, labels. A file is kept as an image whose disk is called "/" and the
// file's name (filecodec.go), so that all that is said of images here goes for
// files too, but that they have no parent. An image is a list of chunk numbers, one for every 64 MiB of the
// disk; a chunk record says in which packs' slots the chunk's blocks lie. So
// any block of any point is found with one list and one record. Chunks with
// equal hashes are recorded once. Every image is complete: removing a point
// never touches the content of another.
//
// # The life of a point
//
//	live → trash → removed → forgotten
//
// A point in the trash is not listed or found, and all else of it stays. One
// that was removed is gone for good, but for its chunk lists, which somebody may
// still be reading; it is forgotten once nobody does. Held and locked points
// refuse to leave the first state, under the lock that all changes take, so no
// caller can forget to ask. Merge takes images out of points and forgets them
// at once, and the files with them that were understood as the disk. What descended from an image that goes descends from its parent.
//
// References say how often the chunk lists of all points not forgotten name a
// chunk. A chunk whose last reference goes is dead: its hash leads to it no
// more, in the same batch, and its number cannot be committed. So whatever a
// commit can name is named by some image already, and a mark of the images'
// chunks, taken from a snapshot, misses nothing that a commit beside it may
// still use. Chunks born and dead go to a queue, from which the accounts learn
// of them; they delete the records of the dead.
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
//	Remove, Trash, Undelete, Hold, Release, Lock, SetPolicy, Merge:
//	         check → one log record, fdatasync → database batch, synced → return
//	Forget:  database batches, synced → return; not in the log
//	Open:    database's watermark → check the log from there → apply the rest
//	         → forget every removed point
//
// The database's batch for a transaction is computed from the log's records
// alone, by one piece of code (applier), whether at Commit or at Open. Chunk
// records, chunk lists and blobs may reach the database ahead of their point,
// since nothing leads to them without it; all else of a transaction and the
// watermark are one batch.
//
// The log does not say when a point was forgotten. Replay therefore forgets at
// the end only: until then it keeps more chunks alive than were when the
// transactions were made, never fewer, and of two chunks with one hash the
// later is found. At the end the same chunks are left.
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
//	v VM                   summary of the VM's live points
//	r VM 0 time            live point; time is u64 BE Unix milliseconds
//	x VM 0 time            point in the trash
//	P point                commit time and VM of a point, and which of the two
//	t point                when it was removed
//	d point                removed and not forgotten
//	i point 0 disk         chunk list; disk is "/" and the name for a file
//	b point 0 name         blob
//	c number               chunk record; number is u64 BE
//	C hash                 number of the chunk of that hash
//	n page                 references to 512 chunks
//	y VM                   policy
//	q number               chunks born or died, for the accounts
//	k …                    the accounts
//
// Times are the server's, in milliseconds, and strictly increasing over the
// life of a catalog even if the clock is not, so every point has its own and
// "latest" is well defined.
//
// # Files
//
//	catalog.go db.go           open, close, Pebble
//	commit.go transaction.go numberer.go     a new point
//	trash.go protect.go remove.go forget.go  the life of a point
//	merge.go policy.go exclusive.go          other changes
//	apply.go applylife.go      records → database
//	refs.go refchange.go queue.go            references, births and deaths
//	mark.go affected.go        all chunks of all images
//	query.go resolve.go ref.go eachpoint.go cache.go read.go
//	stats.go dump.go           what there is
//	records.go attributes.go codec.go *codec.go vm.go watermark.go keys.go   bytes
//	validate.go limits.go      what is accepted
//	account*.go                who uses which slot, and what images take
//
// # Locks
//
// life (RWMutex): every method holds it for reading, Close for writing.
// commit (Mutex), taken after life: all changes but the accounts', one at a time.
// The accounts' asking (one question at a time) and mu (one part of the queue, or
// a recount, at a time) are taken after life and before commit, in this order.
// The applier's and the cache's mutexes are taken last and never together.
// Readers take no other lock: they see a transaction whole or not at all,
// because its point is one batch, and methods that read several keys of what
// may change use a snapshot or start from the point.
package catalog
