package main

// fault is a mutant and the tests that should catch it, the quickest
// first.
type fault struct {
	name  string
	what  string
	tests []test
}

// test is tests of a package, by a pattern of their names.
type test struct {
	pkg, run string
	soak     int // STRONGROOM_SOAK, if more than 1
}

var (
	life       = test{pkg: "integration/life", run: "TestLife"}
	longerLife = test{pkg: "integration/life", run: "TestLife", soak: 4}
)

var mutants = []fault{
	// The metadata log: what is committed is durable.
	{"metalog/no-sync", "a transaction is not synced", []test{{pkg: "catalog/metalog", run: "TestCrashAtEveryOperation"}, life}},
	{"metalog/no-directory-sync", "a new file's name is not synced", []test{{pkg: "catalog/metalog", run: "TestCrashAtEveryOperation"}, life}},
	{"metalog/no-settle", "a last transaction that may not be durable is relied on", []test{{pkg: "catalog/metalog", run: "TestCrashAtEveryOperation"}}},

	// The catalog: what must stay stays, and nothing dead comes back.
	{"catalog/hold-ignored", "a held point goes", []test{{pkg: "catalog", run: "TestRefusals"}, life}},
	{"catalog/lock-ends-early", "a lock ends a millisecond early", []test{{pkg: "catalog", run: "TestLockEdge"}, life}},
	{"catalog/lock-shortens", "a lock can be shortened", []test{{pkg: "catalog", run: "TestRefusals|TestLockEdge"}, life}},
	{"catalog/undelete-forgets", "undelete forgets what was said of the point", []test{{pkg: "catalog", run: "TestUndeleteKeeps"}, life}},
	{"catalog/purge-undeleted", "the trash takes a point that was undeleted meanwhile", []test{{pkg: "catalog", run: "TestPurge"}, longerLife}},
	{"catalog/dead-hash-stays", "the hash of a dead chunk is still found", []test{{pkg: "catalog", run: "TestDeadChunks"}, longerLife}},
	{"catalog/merge-leaks-references", "a merge keeps the references of the content it replaces", []test{{pkg: "catalog", run: "^TestHistories$"}, life}},
	{"catalog/merge-keeps-files", "files stay although the image they became goes", []test{{pkg: "catalog", run: "TestMergeTakesFiles"}}},
	{"catalog/merge-heirs", "what hangs on merged images gets the wrong parent", []test{{pkg: "catalog", run: "^TestHistories$"}, life}},
	{"catalog/orphans", "children of a removed point lose their grandparent", []test{{pkg: "catalog", run: "^TestHistories$"}, life}},
	{"catalog/mark-without-trash", "the mark passes over points in the trash", []test{{pkg: "catalog", run: "^TestHistories$"}, life}},

	// Packs: what is acknowledged, synced and sealed.
	{"dedup/no-fsync", "packs are never synced", []test{{pkg: "dedup", run: "TestOrderOfSyncs"}, life}},
	{"dedup/footer-before-sync", "a footer is written before the frames are durable", []test{{pkg: "dedup", run: "TestOrderOfSyncs"}}},
	{"dedup/fsync-again", "a failed fsync is tried again", []test{{pkg: "dedup", run: "TestFailedSync"}}},
	{"dedup/no-note", "no note is left of a failed fsync", []test{{pkg: "dedup", run: "TestFailedSync"}}},
	{"dedup/read-unverified", "blocks are served without a look at their hash", []test{{pkg: "dedup", run: "TestDamageInEveryByteClass"}}},
	{"dedup/verify-blind", "verification calls every block good", []test{{pkg: "dedup", run: "TestHeal|TestVerify|TestRepair"}, {pkg: "maintenance", run: "TestDamageIsFoundAndHealed"}}},

	// Collection: nothing that is wanted goes.
	{"dedup/hit-unmarked", "a dedup hit does not mark its block", []test{{pkg: "dedup", run: "TestCondemnedWhileHit"}, life}},
	{"dedup/hit-on-condemned", "a condemned block is a dedup hit", []test{{pkg: "dedup", run: "TestHitWhileCondemned"}, life}},
	{"dedup/condemn-without-flag", "a pack is condemned without a word to writers", []test{{pkg: "dedup", run: "TestHitWhileCondemned"}}},
	{"dedup/swap-untold", "writers are not told that a pack was swapped", []test{{pkg: "dedup", run: "TestStaleView"}}},
	{"dedup/swap-before-sync", "a new generation counts before it is durable", []test{{pkg: "dedup", run: "TestCrashWhileCollecting"}, life}},
	{"dedup/unlink-before-index", "files go before the index has durably forgotten them", []test{{pkg: "dedup", run: "TestIndexForgetsBeforeUnlink"}, life}},
	{"dedup/unsealed-generation", "a generation that was never finished counts", []test{{pkg: "dedup", run: "TestCrashWhileCollecting"}}},
	{"dedup/highest-pack-goes", "the highest pack is removed, so that its number is used again", []test{{pkg: "dedup", run: "TestCollectWholePacks"}}},

	// Compressing later: no block is given up for it, and the disk does not fill up.
	{"dedup/compress-salvages", "compressing gives up damaged blocks", []test{{pkg: "dedup", run: "TestDamagedPackIsNotCompressed"}}},
	{"dedup/compress-again", "frames that do not shrink are tried again", []test{{pkg: "dedup", run: "TestCompressLater"}}},
	{"dedup/compress-without-room", "a pack is written anew on a disk without room for it", []test{{pkg: "dedup", run: "TestLaterOnAFullDisk"}}},
	{"dedup/later-on-full-disk", "data is stored as it is on a disk that fills up", []test{{pkg: "dedup", run: "TestLaterOnAFullDisk"}}},

	// Sessions: what a collection must know of them, and what a crash takes.
	{"volume/commit-before-sync", "a point is committed before its packs are synced", []test{life, longerLife}},
	{"volume/flush-without-packs", "a flush syncs the journals alone", []test{{pkg: "volume", run: "TestPowerCutAndUnflushedWrites"}, life}},
	{"volume/dead-session-lives", "a session that lost acknowledged writes goes on", []test{{pkg: "volume", run: "TestPowerCutAndUnflushedWrites"}, life}},
	{"volume/no-roots", "a collection is told of no session", []test{{pkg: "volume", run: "TestRoots"}, life}},
	{"volume/no-roots-in-journal", "a collection is not told of chunks that left memory", []test{{pkg: "volume", run: "TestRoots"}}},
	{"volume/no-barrier", "a collection does not wait for what is under way", []test{{pkg: "maintenance", run: "TestCollectionWaits"}}},
	{"volume/parent-goes", "a point goes although a session inherits from it", []test{{pkg: "volume", run: "TestPins"}, life}},
	{"volume/cut-keeps-tail", "what a file had behind its end comes back when it grows", []test{{pkg: "volume", run: "TestFileHistories"}}},
	{"volume/copied-file-changes", "a file is written to although a disk has its blocks", []test{{pkg: "volume", run: "TestImportSeals"}}},
	{"volume/copied-file-goes", "a file is removed although a disk has its blocks", []test{{pkg: "volume", run: "TestImportSeals"}}},
	{"volume/half-import-stays", "a disk that may be half copied is kept over a restart", []test{{pkg: "volume", run: "TestHalfImportGoes"}}},
	{"volume/lost-file-lives", "a file that lost acknowledged writes goes on", []test{{pkg: "volume", run: "TestFsyncThenPowerCut"}}},
	{"volume/commit-unfinished", "a file that lacks what was written to it is committed", []test{{pkg: "volume", run: "TestFsyncThenPowerCut"}}},
	{"volume/nameless-unmarked", "a collection is not told of files that are open without a name", []test{{pkg: "volume", run: "TestRemovedFileStaysOpen"}}},
	{"volume/data-before-length", "what a write brings is logged before the file has room for it", []test{{pkg: "volume", run: "TestFilesCut|TestFileHistories"}}},
	{"volume/commit-soils-journals", "a commit that is cut takes files that were flushed", []test{{pkg: "volume", run: "TestFilesCut"}}},
	{"volume/stray-journals", "journals that no file has stay", []test{{pkg: "volume", run: "TestFileHistories"}}},
	{"volume/no-retired-roots", "a collection is not told of what clones have overwritten since they were flushed", []test{{pkg: "volume", run: "TestOverwrittenBlocksStay"}}},
	{"volume/stale-clone-lives", "a clone that lost acknowledged writes goes on", []test{{pkg: "volume", run: "TestStaleClone"}}},
	{"volume/rewrite-misses-writes", "a write while the journal is written anew is not in it", []test{{pkg: "volume", run: "TestCloneConcurrently"}}},
	{"volume/rewrite-unsynced", "a journal takes another's place before it is synced", []test{{pkg: "volume", run: "TestRewriteCut"}}},
	{"volume/reader-unpinned", "a point is forgotten although it is being read", []test{{pkg: "volume", run: "TestPins"}, longerLife}},

	// Maintenance: the order of a collection, and what rules may take.
	{"maintenance/points-before-sessions", "points are marked before sessions", []test{{pkg: "maintenance", run: "TestCommitBetweenSteps"}, life}},
	{"maintenance/forget-pinned", "removed points are forgotten while they are used", []test{{pkg: "maintenance", run: "TestOpenSessionsKeepTheirData"}, longerLife}},
	{"maintenance/prune-ignores-lock", "rules do not see locks", []test{{pkg: "maintenance", run: "TestChainLimit"}, life}},
	{"maintenance/damaged-parent", "a backup inherits from a damaged image", []test{{pkg: "maintenance", run: "TestDamageIsFoundAndHealed"}}},
}
