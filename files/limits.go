package files

import (
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
)

// Every bound of this package, with its reason.
const (
	// maxComponent is what file systems allow a component of a name; the catalog
	// says what else a file may be called.
	maxComponent = 255
	// maxDepth is how deep folders go.
	maxDepth = catalog.MaxFileDepth
	// maxFiles bounds a session's names: a point keeps no more.
	maxFiles = catalog.MaxFiles
	// maxDirs bounds the empty folders remembered for a session.
	maxDirs = 1024
	// maxUserFolders bounds the folders of VMs that standing users have begun.
	maxUserFolders = 4096
	// maxFileSize is 64 TiB, which is what a volume takes.
	maxFileSize = 1 << 46
	// maxManifest bounds manifest.json, which is read whole.
	maxManifest = 1 << 20

	// pieceSize is what is handed to the volume at once: big enough that its fixed
	// costs vanish, and 16 blocks keep a core busy for a few milliseconds.
	pieceSize = 1 << 20
	// pieceSpans is how many separate runs of bytes a piece holds: of requests that
	// overtook each other there are fewer, of scattered small writes each costs a
	// journal record anyway.
	pieceSpans = 32
	// maxPieces bounds what all files together may gather: 64 MiB.
	maxPieces = 64
	// openPieces is how many places of a file may gather at a time: a stream of
	// data, tables beside it, and requests that overtake each other.
	openPieces = 8
	// flyingPieces is how many pieces of a file may wait to be stored before its
	// writers wait: enough for all cores, little enough that a slow disk is felt.
	flyingPieces = 8
	// idleFlush is when a piece nobody adds to is stored; agedFlush when one is
	// stored though somebody does.
	idleFlush = 100 * time.Millisecond
	agedFlush = time.Second

	// closeGrace is how long a commit waits for files to be closed: a CLOSE that is
	// under way comes in much less.
	closeGrace = 5 * time.Second

	// importPiece is how much decoded data an import writes at once.
	importPiece = 1 << 20

	// A virtual qcow2 file takes viewBytes and, for each 64 MiB of the disk that it
	// holds something of, viewChunkBytes: two bitmaps and counts.
	viewBytes      = 4096
	viewChunkBytes = 320
	// idleViewBytes bounds the tables of virtual files that nobody has open: those
	// of 25 TiB of disks; maxViewBytes those that are open.
	idleViewBytes = 128 << 20
	maxViewBytes  = 512 << 20
	// maxSizes bounds the sizes of virtual files remembered, 200 bytes each.
	maxSizes = 1 << 16
	// maxChain is how far a chain is followed: ten times what a policy makes.
	maxChain = 1000
	// chainTries is how often a chain is looked at that changes meanwhile.
	chainTries = 4
	// maxListing bounds the points listed of one VM at a time.
	maxListing = 1000
)
