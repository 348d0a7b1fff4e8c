package maintenance

import (
	"time"

	"github.com/robfig/cron/v3"
)

// Config is how a server looks after its points. Settings hold for VMs without
// a policy of their own.
type Config struct {
	Settings Settings
	GC       GCConfig
	Scrub    ScrubConfig
	Compress CompressConfig
	// PruneAt is when Run prunes, in Location; nil: never.
	PruneAt cron.Schedule
	// Location is where days and weeks of the keep rules begin; nil: UTC.
	Location *time.Location
}

// GCConfig is when garbage is collected, and how fast.
type GCConfig struct {
	Rate      int64   // bytes moved per second; 0: no limit
	DeadRatio float64 // packs with this share of dead bytes are compacted; 0: 0.25
	// ReclaimAt and ReclaimShare are how much must have become reclaimable since
	// the last collection for the next to begin by itself: bytes, or a share of
	// what the packs take. The smaller counts. 0: 1 GiB, 0.05.
	ReclaimAt    int64
	ReclaimShare float64
	// LowFree is the share of the disk below which free space is short: then a
	// collection begins by itself, and compacts what pays at all. 0: 0.1.
	LowFree float64
	Every   time.Duration // how often all that is looked at; 0: 30 s
	AtLeast time.Duration // a collection begins when there was none for so long; 0: 24 h, below 0: never
	Grace   time.Duration // how long a replaced pack file stays at least
}

// CompressConfig is when data is compressed that was stored without, and how
// fast.
type CompressConfig struct {
	Rate  int64         // bytes written per second; 0: no limit
	Idle  time.Duration // clients must have brought nothing for so long; 0: 10 s
	At    int64         // or so many bytes wait; 0: 1 GiB
	Every time.Duration // how often all that is looked at; 0: 2 s
}

// ScrubConfig is how often every byte is read again, and how fast.
type ScrubConfig struct {
	TargetAge time.Duration // every pack is verified again within; 0: never by itself
	Rate      int64         // bytes read per second; 0: no limit
	Every     time.Duration // how often it goes on with the packs that are due; 0: 1 min
}
