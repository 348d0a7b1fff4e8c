package metrics

import "github.com/strongroom-backup/strongroom/catalog"

var (
	vms          = gauge("vms", "VMs that have a recovery point.")
	points       = gauge("points", "Recovery points.")
	images       = gauge("images", "Images: disks of recovery points.")
	logicalBytes = gauge("logical_bytes", "Sizes of all images together.")
	latestBytes  = gauge("latest_bytes", "Sizes of the newest image of every disk together.")
	removed      = gauge("points_removed_pending", "Points that are gone and whose space nobody has looked at yet.")
	chunks       = counter("chunk_records_total", "Chunk records made since the store was made.")

	metalogFiles = gauge("metadata_log_files", "Files of the metadata log.")
	metalogBytes = gauge("metadata_log_bytes", "Bytes of the metadata log.")
	catalogTime  = histogram("catalog_commit_duration_seconds", "Duration of the catalog's part of commits.")
	chunkHits    = counter("chunk_cache_hits_total", "Chunk records found in the cache.")
	chunkMisses  = counter("chunk_cache_misses_total", "Chunk records read from the catalog.")
	chunkCache   = gauge("chunk_cache_bytes", "Memory of the chunk record cache.")
	readOnly     = gauge("catalog_read_only", "1 when a failed sync has made the catalog read-only: look at the disk and restart the server.")

	lastBackup = gauge("backup_last_success_timestamp_seconds", "When the newest recovery point that has the disk was committed.", "vm", "disk")
	lastHidden = gauge("backup_last_success_omitted", "Disks left out of strongroom_backup_last_success_timestamp_seconds because there are too many.")
)

func collectCatalog(to sink, s catalog.Stats) {
	put(to, vms, s.VMs)
	put(to, points, s.Points)
	put(to, images, s.Images)
	put(to, logicalBytes, s.LogicalBytes)
	put(to, latestBytes, s.LatestBytes)
	put(to, removed, s.Removed)
	put(to, chunks, s.Chunks)
	put(to, metalogFiles, s.LogFiles)
	put(to, metalogBytes, s.LogBytes)
	putHist(to, catalogTime, s.Commit)
	put(to, chunkHits, s.CacheHits)
	put(to, chunkMisses, s.CacheMisses)
	put(to, chunkCache, s.CacheBytes)
	put(to, readOnly, truth(s.ReadOnly))
	shown := s.LastCommits[:min(len(s.LastCommits), lastBackupsMax)]
	for _, l := range shown {
		put(to, lastBackup, float64(l.Time.UnixMilli())/1000, l.VM, l.Disk)
	}
	put(to, lastHidden, len(s.LastCommits)-len(shown))
}
