package dedup

import (
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/strongroom-backup/strongroom/internal/hist"
)

// PutResult counts the blocks of a Put by where they were found.
type PutResult struct {
	Zero   int64 // all zero bytes, not stored
	Hint   int64 // equal to the block the hint named
	Recent int64 // next to the block found before it, in an open pack, or twice in one Put
	Index  int64 // found in the block index
	New    int64 // stored

	NewBytes    int64 // BlockSize × New
	StoredBytes int64 // what the new blocks take in packs, frame headers included
}

// Add sums up results.
func (r *PutResult) Add(o PutResult) {
	r.Zero += o.Zero
	r.Hint += o.Hint
	r.Recent += o.Recent
	r.Index += o.Index
	r.New += o.New
	r.NewBytes += o.NewBytes
	r.StoredBytes += o.StoredBytes
}

// Stats is what the store has done since Open. Counts of blocks are in blocks,
// the rest in bytes where the name says so.
type Stats struct {
	Put PutResult

	PackWrites     uint64 // writes to pack files
	PackWriteBytes uint64
	PackSyncs      uint64 // fdatasyncs of pack files
	PackSyncErrors uint64
	PackSyncTime   hist.Snapshot
	PacksSealed    uint64
	PacksGivenUp   uint64

	Packs        int // known to exist
	OpenPacks    int // without a footer: growing, sealing or given up
	SealingPacks int
	RecentBlocks int // blocks of open packs, found without the index
	OpenFiles    int // handles of pack files kept for reading

	Reads           uint64 // calls
	ReadBlocks      uint64 // zero blocks included
	ReadZeroBlocks  uint64
	PackReads       uint64 // reads of pack files for data
	PackReadBytes   uint64
	DecodedBytes    uint64
	FrameCacheHits  uint64
	FrameCacheBytes int64
	TOCLoads        uint64
	TOCCacheBytes   int64

	PackBytes int64 // size of all pack files, tables of contents included and files in their grace too

	Collections    uint64 // garbage collections begun
	CondemnedBytes uint64 // dead bytes of packs that were condemned
	MovedBytes     uint64 // written to new generations by compaction
	FreedBytes     uint64 // given back to the disk
	PacksRemoved   uint64 // that had no live block
	PacksCompacted uint64
	PendingRemoval int // files out of use that wait for their grace or their readers

	LaterBytes    int64  // of frames whose compression was not tried, in open packs and others
	Compressions  uint64 // packs whose frames were compressed later
	CompressedIn  uint64 // of their files before
	CompressedOut uint64 // and after

	PacksVerified  uint64 // verifications
	VerifiedBytes  uint64 // read by them
	PacksRepaired  uint64 // written anew by RepairPack
	RepairedBlocks uint64 // replaced by another copy
	HealedReads    uint64 // blocks served from another copy
	KnownDamaged   int    // blocks known to be damaged now
	LostPacks      int    // packs that are missing or cannot be read at all

	DamagedBlocks uint64 // damaged blocks and pack structures met
	IndexErrors   uint64

	// Index is the block index's own, nil after Close.
	Index *pebble.Metrics
}

// counters back Stats.
type counters struct {
	zero, hint, recent, index, fresh, storedBytes atomic.Int64

	packWrites, packWriteBytes, packSyncs, packSyncErrors atomic.Uint64
	sealed, givenUp                                       atomic.Uint64
	syncTime                                              hist.H

	reads, readBlocks, readZero, packReads, packReadBytes atomic.Uint64
	decodedBytes, frameHits, tocLoads                     atomic.Uint64
	damaged, indexErrors                                  atomic.Uint64

	collections, condemnedBytes, movedBytes, freedBytes, removed, compacted atomic.Uint64
	compressions, compressedIn, compressedOut                               atomic.Uint64
	verified, verifiedBytes, repairedPacks, repairedBlocks, healedReads     atomic.Uint64
}

func (c *counters) addPut(r *PutResult) {
	for _, v := range []struct {
		to *atomic.Int64
		n  int64
	}{{&c.zero, r.Zero}, {&c.hint, r.Hint}, {&c.recent, r.Recent}, {&c.index, r.Index}, {&c.fresh, r.New}, {&c.storedBytes, r.StoredBytes}} {
		if v.n != 0 {
			v.to.Add(v.n)
		}
	}
}

// Stats returns the counters.
func (s *Store) Stats() Stats {
	c := &s.count
	st := Stats{
		Put: PutResult{
			Zero: c.zero.Load(), Hint: c.hint.Load(), Recent: c.recent.Load(), Index: c.index.Load(),
			New: c.fresh.Load(), NewBytes: c.fresh.Load() * BlockSize, StoredBytes: c.storedBytes.Load(),
		},
		PackWrites: c.packWrites.Load(), PackWriteBytes: c.packWriteBytes.Load(),
		PackSyncs: c.packSyncs.Load(), PackSyncErrors: c.packSyncErrors.Load(), PackSyncTime: c.syncTime.Snapshot(),
		PacksSealed: c.sealed.Load(), PacksGivenUp: c.givenUp.Load(),
		Reads: c.reads.Load(), ReadBlocks: c.readBlocks.Load(), ReadZeroBlocks: c.readZero.Load(),
		PackReads: c.packReads.Load(), PackReadBytes: c.packReadBytes.Load(), DecodedBytes: c.decodedBytes.Load(),
		FrameCacheHits: c.frameHits.Load(), TOCLoads: c.tocLoads.Load(),
		DamagedBlocks: c.damaged.Load(), IndexErrors: c.indexErrors.Load(),
		Packs: s.packs.count(), RecentBlocks: s.recent.len(), SealingPacks: len(s.sealing),
		Index: s.index.metrics(),
	}
	st.PackBytes, st.LaterBytes = s.sealedBytes.Load(), s.later.sum()
	for _, p := range s.open.all() {
		t := p.view.Load()
		st.PackBytes += t.end()
		st.LaterBytes += t.laterBytes()
		st.OpenPacks++
	}
	st.Compressions, st.CompressedIn, st.CompressedOut = c.compressions.Load(), c.compressedIn.Load(), c.compressedOut.Load()
	st.Collections, st.CondemnedBytes, st.MovedBytes, st.FreedBytes = c.collections.Load(), c.condemnedBytes.Load(), c.movedBytes.Load(), c.freedBytes.Load()
	st.PacksRemoved, st.PacksCompacted, st.PendingRemoval = c.removed.Load(), c.compacted.Load(), s.graves.count()
	st.PacksVerified, st.VerifiedBytes, st.HealedReads = c.verified.Load(), c.verifiedBytes.Load(), c.healedReads.Load()
	st.PacksRepaired, st.RepairedBlocks = c.repairedPacks.Load(), c.repairedBlocks.Load()
	st.KnownDamaged, st.LostPacks = int(s.health.n.Load()), len(s.health.lost())
	st.FrameCacheBytes, st.TOCCacheBytes = s.frames.bytes(), s.tocs.bytes()
	st.OpenFiles = s.files.entries()
	return st
}
