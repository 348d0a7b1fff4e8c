package metrics

import (
	"strconv"

	"github.com/cockroachdb/pebble/v2"
)

// Pebble's own figures, once per database: catalog and index.
var (
	dbCompactions = counter("pebble_compactions_total", "Compactions done.", "db")
	dbCompacting  = gauge("pebble_compactions_running", "Compactions under way.", "db")
	dbDebt        = gauge("pebble_compaction_debt_bytes", "Bytes to be compacted until the tree is in shape.", "db")
	dbFailed      = counter("pebble_compactions_failed_total", "Compactions that failed; they are tried again.", "db")
	dbFlushes     = counter("pebble_flushes_total", "Flushes of memtables.", "db")
	dbReadAmp     = gauge("pebble_read_amplification", "Tables a point read may have to look into.", "db")
	dbDisk        = gauge("pebble_disk_bytes", "Bytes of the database's files.", "db")
	dbMemtable    = gauge("pebble_memtable_bytes", "Memory of memtables.", "db")

	dbLevelFiles = gauge("pebble_level_files", "Tables of a level.", "db", "level")
	dbLevelBytes = gauge("pebble_level_bytes", "Bytes of a level.", "db", "level")
	dbSublevels  = gauge("pebble_l0_sublevels", "Sublevels of level 0; many of them slow reads and stop writes.", "db")

	dbCacheBytes  = gauge("pebble_block_cache_bytes", "Memory of the block cache.", "db")
	dbCacheHits   = counter("pebble_block_cache_hits_total", "Blocks found in the block cache.", "db")
	dbCacheMisses = counter("pebble_block_cache_misses_total", "Blocks read from disk.", "db")
	dbFilterHits  = counter("pebble_filter_hits_total", "Table reads that a Bloom filter saved.", "db")
	dbFilterMiss  = counter("pebble_filter_misses_total", "Table reads that a Bloom filter could not save.", "db")

	dbWALFiles   = gauge("pebble_wal_files", "Files of the write-ahead log.", "db")
	dbWALBytes   = gauge("pebble_wal_bytes", "Live bytes of the write-ahead log.", "db")
	dbWALWritten = counter("pebble_wal_written_bytes_total", "Bytes written to the write-ahead log.", "db")
)

// collectPebble leaves out a database that is closed.
func collectPebble(to sink, db string, m *pebble.Metrics) {
	if m == nil {
		return
	}
	put(to, dbCompactions, m.Compact.Count, db)
	put(to, dbCompacting, m.Compact.NumInProgress, db)
	put(to, dbDebt, m.Compact.EstimatedDebt, db)
	put(to, dbFailed, m.Compact.FailedCount, db)
	put(to, dbFlushes, m.Flush.Count, db)
	put(to, dbReadAmp, m.ReadAmp(), db)
	put(to, dbDisk, m.DiskSpaceUsage(), db)
	put(to, dbMemtable, m.MemTable.Size, db)
	put(to, dbSublevels, m.Levels[0].Sublevels, db)
	for i := range m.Levels {
		put(to, dbLevelFiles, m.Levels[i].TablesCount, db, strconv.Itoa(i))
		put(to, dbLevelBytes, m.Levels[i].TablesSize, db, strconv.Itoa(i))
	}
	put(to, dbCacheBytes, m.BlockCache.Size, db)
	put(to, dbCacheHits, m.BlockCache.Hits, db)
	put(to, dbCacheMisses, m.BlockCache.Misses, db)
	put(to, dbFilterHits, m.Filter.Hits, db)
	put(to, dbFilterMiss, m.Filter.Misses, db)
	put(to, dbWALFiles, m.WAL.Files, db)
	put(to, dbWALBytes, m.WAL.Size, db)
	put(to, dbWALWritten, m.WAL.BytesWritten, db)
}
