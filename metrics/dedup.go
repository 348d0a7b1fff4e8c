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

	readCalls   = counter("store_reads_total", "Reads of blocks from the store.")
	readBlocks  = counter("store_read_blocks_total", "Blocks read from the store, by where they came from: zero or data.", "source")
	packReads   = counter("pack_reads_total", "Reads of pack files for data.")
	packRead    = counter("pack_read_bytes_total", "Bytes read from pack files for data.")
	decoded     = counter("decoded_bytes_total", "Bytes that frames decoded to.")
	frameHits   = counter("frame_cache_hits_total", "Frames found decoded in the cache.")
	frameCache  = gauge("frame_cache_bytes", "Memory of the cache of decoded frames.")
	tocLoads    = counter("toc_loads_total", "Tables of contents read from packs.")
	tocCache    = gauge("toc_cache_bytes", "Memory of the cache of tables of contents.")
	damaged     = counter("damaged_blocks_total", "Damaged blocks and pack structures met; they are not served.")
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
