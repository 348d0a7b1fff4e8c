package dedup

import "time"

// Limits of the format: a reader refuses what lies outside them.
const (
	// MaxPackSlots bounds a pack's TOC to about 330 KiB.
	MaxPackSlots = 8192
	// MaxPackSize is the size to which packs are filled.
	MaxPackSize = 64 << 20
	// maxPackFile is what a pack file may have grown to: a pack recovered
	// after a crash carries torn bytes and a TOC behind the limit.
	maxPackFile = 2 * MaxPackSize
	// FrameBlocks is the most blocks one frame holds. 256 KiB takes most of
	// what compressing together gains (docs/FORMAT.md, "Why frames").
	FrameBlocks = 4
	// frameRaw is the most bytes a frame decodes to.
	frameRaw = FrameBlocks * BlockSize
	// maxPack is the highest pack number; an Addr has 48 bits for it.
	maxPack = 1<<40 - 1
)

// Limits of the engine.
const (
	// MinPackSize is the smallest Options.PackSize: a raw frame, its TOC and
	// the footer must fit.
	MinPackSize = 512 << 10
	// batchBlocks is the unit of work of a Put: 1 MiB keeps the assembled
	// batch in the cache and holds a lane for well under a millisecond.
	batchBlocks = 16
	// readSpan is the most bytes of neighbouring frames fetched by one read.
	readSpan = 1 << 20
	// readThrough is how much between two wanted frames is read and thrown away
	// rather than read around: what a second read costs even of memory.
	readThrough = 32 << 10
	// shareBlocks is the least part of a request that is worth another core's
	// while: half a millisecond's work, where waking it takes a hundredth of that.
	shareBlocks = 8
	// maxSealing bounds the packs that wait for their seal's fdatasync; the
	// next one makes its writer wait, so a slow disk slows the client.
	maxSealing = 16
	// maxOpenFiles bounds the handles of sealed packs.
	maxOpenFiles = 256
	// maxWriterDeps is how many packs a writer may depend on before it looks
	// for those that have been synced meanwhile.
	maxWriterDeps = 64
	// usageEvery and usageBytes bound how stale the known free space may be.
	usageEvery = time.Second
	usageBytes = 64 << 20
	// rawRatioNum/rawRatioDen: a frame that does not shrink to 20/21 (ratio
	// 1.05) is stored raw; reading it then costs no decoding.
	rawRatioNum, rawRatioDen = 20, 21
	// laterRoom and laterShare: with less than so many bytes left above the
	// reserve, or than this part of a small tier, a writer made for compressing
	// later compresses at once. What is stored as it is takes two to three times
	// its room until it is compressed, and that takes the room of a pack.
	laterRoom, laterShare = 4 << 30, 8
	// busyFor: compressing later leaves half the cores to clients that stored
	// something so lately.
	busyFor = time.Second
	// idleShare: idle packs that take more than this part of the store are worth
	// collecting however small they are.
	idleShare = 16
	// maxBad bounds the damaged blocks remembered: 64 Ki of them are 4 GiB of
	// damage and take about 2 MiB.
	maxBad = 64 << 10
)

// Default cache budgets, in bytes.
const (
	defaultTOCCache   = 64 << 20
	defaultFrameCache = 64 << 20
	defaultIndexCache = 64 << 20
	// indexMemTable bounds what a crash makes Open index again: about 600
	// packs' keys.
	indexMemTable = 64 << 20
)
