package metrics

import "github.com/strongroom-backup/strongroom/dedup"

var (
	blocks = counter("dedup_blocks_total", "Blocks of 64 KiB put into the store, by where they were found: "+
		"zero (all zeros), hint (same place of a related image), recent, index, or new (stored).", "source")
	newBytes    = counter("new_bytes_total", "Bytes of blocks that nobody had.")
	storedBytes = counter("stored_bytes_total", "Bytes that new blocks took in packs, compressed.")

	packWrites   = counter("pack_writes_total", "Writes to pack files.")
	packWritten  = counter("pack_write_bytes_total", "Bytes written to pack files.")
	packSyncs    = counter("pack_syncs_total", "fdatasyncs of pack files.")
	packSyncBad  = counter("pack_sync_errors_total", "fdatasyncs of pack files that failed; the pack is given up.")
	packSyncTime = histogram("pack_sync_duration_seconds", "Duration of fdatasyncs of pack files.")
	packsSealed  = counter("packs_sealed_total", "Packs filled and sealed.")
	packsGivenUp = counter("packs_given_up_total", "Packs given up after a failed fdatasync.")
	packs        = gauge("packs", "Packs that exist, by state: open (being filled), sealing, sealed.", "state")
	packFiles    = gauge("pack_files_open", "Pack files kept open for reading.")
	recentBlocks = gauge("recent_blocks", "Blocks of open packs, found without the index.")

	readCalls      = counter("store_reads_total", "Reads of blocks from the store.")
	readBlocks     = counter("store_read_blocks_total", "Blocks read from the store, by where they came from: zero or data.", "source")
	packReads      = counter("pack_reads_total", "Reads of pack files for data.")
	packRead       = counter("pack_read_bytes_total", "Bytes read from pack files for data.")
	decoded        = counter("decoded_bytes_total", "Bytes that frames decoded to.")
	frameHits      = counter("frame_cache_hits_total", "Frames found decoded in the cache.")
	frameCache     = gauge("frame_cache_bytes", "Memory of the cache of decoded frames.")
	tocLoads       = counter("toc_loads_total", "Tables of contents read from packs.")
	tocCache       = gauge("toc_cache_bytes", "Memory of the cache of tables of contents.")
	damaged        = counter("damaged_blocks_total", "Damaged blocks and pack structures met; they are not served.")
	packsRemoved   = counter("packs_removed_total", "Packs removed because nothing in them was alive.")
	packsCompacted = counter("packs_compacted_total", "Packs written again without what was dead in them.")
	packsPending   = gauge("pack_files_to_remove", "Pack files out of use that wait for their readers or their grace.")
	packsVerified  = counter("packs_verified_total", "Verifications of packs.")
	verifiedBytes  = counter("verified_bytes_total", "Bytes read by verifications.")
	packsRepaired  = counter("packs_repaired_total", "Packs written again with their damaged blocks replaced.")
	healedReads    = counter("healed_read_blocks_total", "Damaged blocks that were served from another copy.")
	damagedNow     = gauge("known_damaged_blocks", "Blocks known to be damaged and not replaced.")
	lostPacks      = gauge("lost_packs", "Packs that are missing or cannot be read at all.")

	indexErrors = counter("index_errors_total", "Failed look-ups in the block index; what they would have found is stored again.")
)

func collectDedup(to sink, s dedup.Stats) {
	collectPut(to, s.Put)
	put(to, packWrites, s.PackWrites)
	put(to, packWritten, s.PackWriteBytes)
	put(to, packSyncs, s.PackSyncs)
	put(to, packSyncBad, s.PackSyncErrors)
	putHist(to, packSyncTime, s.PackSyncTime)
	put(to, packsSealed, s.PacksSealed)
	put(to, packsGivenUp, s.PacksGivenUp)
	put(to, packs, s.OpenPacks-s.SealingPacks, "open")
	put(to, packs, s.SealingPacks, "sealing")
	put(to, packs, s.Packs-s.OpenPacks, "sealed")
	put(to, packFiles, s.OpenFiles)
	put(to, recentBlocks, s.RecentBlocks)
	put(to, readCalls, s.Reads)
	put(to, readBlocks, s.ReadZeroBlocks, "zero")
	put(to, readBlocks, s.ReadBlocks-s.ReadZeroBlocks, "data")
	put(to, packReads, s.PackReads)
	put(to, packRead, s.PackReadBytes)
	put(to, decoded, s.DecodedBytes)
	put(to, frameHits, s.FrameCacheHits)
	put(to, frameCache, s.FrameCacheBytes)
	put(to, tocLoads, s.TOCLoads)
	put(to, tocCache, s.TOCCacheBytes)
	put(to, damaged, s.DamagedBlocks)
	put(to, indexErrors, s.IndexErrors)
	collectPackCare(to, s)
}

// collectPackCare is what collections and verifications did to packs.
func collectPackCare(to sink, s dedup.Stats) {
	put(to, packsRemoved, s.PacksRemoved)
	put(to, packsCompacted, s.PacksCompacted)
	put(to, packsPending, s.PendingRemoval)
	put(to, packsVerified, s.PacksVerified)
	put(to, verifiedBytes, s.VerifiedBytes)
	put(to, packsRepaired, s.PacksRepaired)
	put(to, healedReads, s.HealedReads)
	put(to, damagedNow, s.KnownDamaged)
	put(to, lostPacks, s.LostPacks)
}

func collectPut(to sink, r dedup.PutResult) {
	put(to, blocks, r.Zero, "zero")
	put(to, blocks, r.Hint, "hint")
	put(to, blocks, r.Recent, "recent")
	put(to, blocks, r.Index, "index")
	put(to, blocks, r.New, "new")
	put(to, newBytes, r.NewBytes)
	put(to, storedBytes, r.StoredBytes)
}
