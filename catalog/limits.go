package catalog

import "github.com/strongroom-backup/strongroom/dedup"

const (
	// MaxDiskSize is 1 PiB, well beyond what a hypervisor attaches: 16 Mi
	// chunks, whose list takes 128 MiB in memory.
	MaxDiskSize = 1 << 50
	maxChunks   = MaxDiskSize / dedup.ChunkSize

	// MaxDisks bounds a point to what a VM can have: 256 virtio-scsi targets.
	MaxDisks = 256

	// MaxFiles, MaxFileName (bytes) and MaxFileDepth are for images and what
	// describes them, not for file trees: a point's record holds them all.
	MaxFiles     = 1024
	MaxFileName  = 255
	MaxFileDepth = 8

	// MaxBlobs, MaxBlobBytes and MaxPointBlobBytes are for configuration files
	// (a domain XML is about 10 KiB, an NVRAM image 540 KiB), not for data.
	MaxBlobs          = 256
	MaxBlobBytes      = 1 << 20
	MaxPointBlobBytes = 16 << 20

	// MaxLabels and MaxLabelBytes keep a point's record small: listings
	// decode it.
	MaxLabels     = 64
	MaxLabelBytes = 1024

	// MaxHoldBytes is for a sentence that says why a point must stay.
	MaxHoldBytes = 1024

	// MaxPolicyBytes and MaxLabelRules bound a policy: it is read at every
	// pruning and every start of a backup.
	MaxPolicyBytes = 64 << 10
	MaxLabelRules  = 64

	// maxPolicyCount bounds the numbers of a policy, to what fits an int
	// everywhere and is more than any disk has points.
	maxPolicyCount = 1_000_000

	// maxMerged bounds the images one merge takes, to a record that is read
	// at once: a chain of a backup a minute for two years.
	maxMerged = 1 << 20

	// maxTime is the last millisecond of the year 9999, beyond which RFC 3339
	// cannot write a time.
	maxTime = 253402300799999

	// refPagesCached bounds a refReader to 4 MiB; they cover 524288 chunks.
	refPagesCached = 1024

	// pageOfPoints is how many points EachPoint holds at a time.
	pageOfPoints = 256

	// maxName is the longest name ids.IsName accepts.
	maxName = 128

	// maxPart is the longest name an image's entry can have, a file's.
	maxPart = 1 + MaxFileName

	// maxChunkNo leaves a list of chunk numbers at 8 bytes each at worst; at
	// a thousand new chunks a second it lasts 8900 years.
	maxChunkNo = 1<<48 - 1

	// DefaultCacheBytes holds the chunk records of about 1 TiB of freshly
	// written disks, or of 2 GiB of thoroughly fragmented ones.
	DefaultCacheBytes = 32 << 20

	// batchBytes is when a transaction's chunk records go to Pebble in a batch
	// of their own, so that a huge commit is not in memory twice.
	batchBytes = 4 << 20

	// forgetStep is how many entries of chunk lists are forgotten in one batch:
	// 1 TiB of disk, about 0.1 s during which no commit gets its turn.
	forgetStep = 16 << 10

	// memTableBytes and blockCacheBytes are Pebble's. The working set is the
	// newest points and the chunk records of images in use; Pebble takes the
	// memory of its memtables, at most two here, out of the cache.
	memTableBytes   = 16 << 20
	blockCacheBytes = 64 << 20

	// minPrefix is the shortest prefix of a point id a reference may use: 30
	// of the 48 time bits, about 4 minutes.
	minPrefix = 6

	// maxBack bounds N of latest~N.
	maxBack = 1_000_000
)
