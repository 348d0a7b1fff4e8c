package server

import (
	"fmt"
	"strconv"

	"github.com/strongroom-backup/strongroom/catalog/retention"
	"github.com/strongroom-backup/strongroom/internal/units"
)

// The settings of the life of recovery points. What is said here holds for VMs
// that have no policy of their own.

// TrashConfig is how long a deleted point can be undeleted.
type TrashConfig struct {
	Keep units.Duration `key:"keep"` // 0: it is gone at once
}

// RetentionConfig says which points are kept when points are pruned.
type RetentionConfig struct {
	Keep     KeepConfig `key:"keep"`
	Labels   LabelKeep  `key:"labels"`
	Schedule string     `key:"schedule"` // cron, or none
	Timezone string     `key:"timezone"` // IANA name, UTC or Local
}

// KeepConfig is retention.Keep as settings.
type KeepConfig struct {
	Last    int `key:"last"`
	Hourly  int `key:"hourly"`
	Daily   int `key:"daily"`
	Weekly  int `key:"weekly"`
	Monthly int `key:"monthly"`
	Yearly  int `key:"yearly"`
}

func (k KeepConfig) keep() retention.Keep {
	return retention.Keep{Last: k.Last, Hourly: k.Hourly, Daily: k.Daily, Weekly: k.Weekly, Monthly: k.Monthly, Yearly: k.Yearly}
}

// ChainsConfig bounds the chains of images.
type ChainsConfig struct {
	FullAfter  Limit `key:"full-after"`
	Limit      Limit `key:"limit"`
	WarnManual Limit `key:"warn-manual"`
	Strict     bool  `key:"strict"`
}

// GCConfig is when space is reclaimed, and how fast.
type GCConfig struct {
	Rate      units.Size     `key:"rate"` // bytes moved per second; 0: no limit
	DeadRatio float64        `key:"dead-ratio"`
	ReclaimAt units.Size     `key:"reclaim-at"`
	Every     units.Duration `key:"every"`
	Grace     units.Duration `key:"grace"`
}

// CompressConfig is when data is compressed that was stored without, and how
// fast.
type CompressConfig struct {
	Idle      units.Duration `key:"idle"`
	WaitingAt units.Size     `key:"waiting-at"`
	Rate      units.Size     `key:"rate"` // bytes written per second; 0: no limit
}

// ScrubConfig is how often every byte is read again, and how fast.
type ScrubConfig struct {
	TargetAge units.Duration `key:"target-age"` // 0: never by itself
	Rate      units.Size     `key:"rate"`       // bytes read per second; 0: no limit
}

// Limit is a count of at least 1, or off.
type Limit int

const off = "off"

// String prints the limit as UnmarshalText reads it.
func (l Limit) String() string {
	if l == 0 {
		return off
	}
	return strconv.Itoa(int(l))
}

// UnmarshalText reads a count or off.
func (l *Limit) UnmarshalText(text []byte) error {
	if string(text) == off {
		*l = 0
		return nil
	}
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 1 {
		return fmt.Errorf("%.40q: want a whole number of at least 1, or off", text)
	}
	*l = Limit(n)
	return nil
}
