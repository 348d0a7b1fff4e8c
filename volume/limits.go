package volume

import (
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
)

// Every bound of this package, with its reason.
const (
	// maxDiskSize keeps every offset, rounded up to a block, far from the end of int64, and a
	// disk's chunk numbers within 32 bits.
	maxDiskSize = 1 << 50
	// maxFileSize bounds one file, and all files of a session together: what their
	// chunk lists and maps take in memory grows with it, holes or not.
	maxFileSize = 1 << 46
	// maxFiles bounds the names in a session, since session.json is written anew for
	// each change of one; a point keeps no more.
	maxFiles = catalog.MaxFiles
	// maxAllFiles bounds the files of all sessions; each costs a descriptor.
	maxAllFiles = 16 << 10
	// maxFileMode is all that permission bits can be.
	maxFileMode = 0o7777
	// maxDisks is what the largest hypervisor configurations attach to one VM.
	maxDisks = 256
	// maxTTL bounds how long a forgotten backup can hold space.
	maxTTL = 90 * 24 * time.Hour
	// DefaultTTL applies when a backup names none.
	DefaultTTL = 24 * time.Hour
	// maxLabel bounds one label's value; the catalog bounds their number.
	maxLabel = 4096
	// residentChunks is how many chunk maps (8 KiB each) a disk keeps in memory. 256 cover 16 GiB of
	// scattered writes in 2 MiB; the rest wait in the journal.
	residentChunks = 256
	// maxPatches is how many raw extents may lie over one block before they are merged into it.
	maxPatches = 32
	// maxPatchedBlocks is how many blocks of a disk may carry raw extents; past it every new
	// partial write merges its block at once. Some 100 bytes each.
	maxPatchedBlocks = 1 << 16
	// maxRetired is how many runs of overwritten addresses a disk of a clone keeps until it
	// flushes itself: 1.5 MiB, and twice that while it does.
	maxRetired = 1 << 16
	// rewriteFloor is how many bytes a clone's journal may grow before it is written anew. A
	// start reads it all, in less than a second; a smaller one would be written anew for nothing.
	rewriteFloor = 64 << 20
	// rewriteStep is how many raw extents are copied while the disk waits: a millisecond.
	rewriteStep = 256
	// rewriteDelay is how long a write waits at most when its journal is written anew too slowly.
	rewriteDelay = 20 * time.Millisecond
	// rewritePasses is how often a chunk that changes meanwhile is copied beside the writes that
	// change it; then the disk waits.
	rewritePasses = 3
	// maxRaw is how many bytes of raw extents a disk keeps unmerged, each counted as minRaw at
	// least: past it every new partial write merges its block. It bounds what must be copied when a
	// journal is written anew, and the extents to some 10 MiB of memory.
	maxRaw = 256 << 20
	minRaw = 1 << 10
	// addrCacheChunks is how many expanded chunk records (8 KiB each) all readers share.
	addrCacheChunks = 2048
	// compareBlocks is how many blocks of two images are compared at a time: few enough for
	// clients that ask for one extent after the other, enough to look packs up in passing.
	compareBlocks = 128
	// readAheadBytes is what readers are read ahead together: eight sequential readers as far as
	// any is.
	readAheadBytes = 64 << 20
	// keepClosed is how long the outcome of a finished session can be asked for.
	keepClosed = 7 * 24 * time.Hour
	// settledAfter is when the last change of an ended session is surely on the disk: every kernel
	// writes back within a minute. It spares a sync for each of the many at a start.
	settledAfter = time.Hour
	// maxClosed bounds the number of finished sessions remembered.
	maxClosed = 10_000
	// maxSessions bounds the open ones; each costs descriptors and memory.
	maxSessions = 4096
	// maxClones bounds the clones, each of which may take as much memory as a busy backup for weeks.
	maxClones = 256
	// maxFormer is how many tokens of before a disk was resumed are remembered, to say so to who
	// comes with one.
	maxFormer = 16
	// maxRoomMade is how often a start may make room before it gives up; once is enough unless
	// other starts take the room.
	maxRoomMade = 16
	// maxSessionFile bounds a session.json, blobs (16 MiB, in base64) included.
	maxSessionFile = 40 << 20
	// maxRecord bounds a journal record: a mapping of a 32 MiB write, a chunk map, or raw data of
	// less than a block.
	maxRecord = 1 << 20
)
