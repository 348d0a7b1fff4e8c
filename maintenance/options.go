package maintenance

import (
	"time"

	"github.com/robfig/cron/v3"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/catalog/retention"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/volume"
)

// Options say what is looked after, and how. Blocks, Catalog and Volumes are
// needed, the rest has defaults.
type Options struct {
	Blocks  *dedup.Store
	Catalog *catalog.Catalog
	Volumes *volume.Manager
	// Space tells how many bytes clients can still store and how many the disk
	// has; nil: the store is never short of space.
	Space  func() (free, total uint64, err error)
	Clock  func() time.Time // nil: time.Now
	Config Config
	Events Events
}

// Config is how a server looks after its points. Settings hold for VMs without
// a policy of their own.
type Config struct {
	Settings Settings
	GC       GCConfig
	Scrub    ScrubConfig
	// PruneAt is when Run prunes, in Location; nil: never.
	PruneAt cron.Schedule
	// Location is where days and weeks of the keep rules begin; nil: UTC.
	Location *time.Location
}

// Settings is a policy with nothing left open: a VM's own over the server's.
type Settings struct {
	Keep      retention.Keep
	LabelKeep map[string]retention.Keep // by "key=value"
	// FullAfter is after how many incrementals a backup in mode auto is a full;
	// 0: never.
	FullAfter int
	// ChainLimit is how many images may hang on one another; 0: any number.
	ChainLimit int
	// ManualWarn is above how many manual points of a disk there is a warning;
	// 0: never.
	ManualWarn   int
	StrictChains bool
	// TrashKeep is how long a deleted point can be undeleted; 0: not at all.
	TrashKeep time.Duration
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

// ScrubConfig is how often every byte is read again, and how fast.
type ScrubConfig struct {
	TargetAge time.Duration // every pack is verified again within; 0: never by itself
	Rate      int64         // bytes read per second; 0: no limit
	Every     time.Duration // how often it goes on with the packs that are due; 0: 1 min
}
