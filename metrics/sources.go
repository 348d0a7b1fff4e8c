package metrics

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/files"
	"github.com/strongroom-backup/strongroom/maintenance"
	"github.com/strongroom-backup/strongroom/nbd"
	"github.com/strongroom-backup/strongroom/sftp"
	"github.com/strongroom-backup/strongroom/tier"
	"github.com/strongroom-backup/strongroom/volume"
)

const (
	// scrapesMax bounds the scrapes at once; each reads every VM's summary.
	scrapesMax = 4
	// scrapeTimeout answers 503 rather than keep Prometheus waiting.
	scrapeTimeout = 20 * time.Second
	// lastBackupsMax bounds the series per VM and disk.
	lastBackupsMax = 10_000
)

// Sources are what a scrape reads. The functions are called at every scrape,
// concurrently when there are several.
type Sources struct {
	Version string
	NBD     func() nbd.Stats
	Volume  func() volume.Stats
	Clones  func() []volume.Status
	Catalog func() catalog.Stats
	Dedup   func() dedup.Stats
	// Upkeep is the maintenance engine, Accounts the catalog's accounts.
	Upkeep   func() maintenance.Stats
	Accounts func() catalog.AccountStats
	Figures  func() Figures
	Opened   Opened
	SFTP     func() sftp.Stats // nil: SFTP is off
	Files    func() files.Stats
	Tier     func() (tier.Usage, error)
	Reserve  int64 // bytes held back on the tier
}

// Describe implements prometheus.Collector.
func (s Sources) Describe(to chan<- *prometheus.Desc) {
	for _, m := range families {
		to <- m.desc
	}
}

var buildInfo = gauge("build_info", "Always 1; the labels say which build is running.", "version", "goversion")

// Collect implements prometheus.Collector.
func (s Sources) Collect(out chan<- prometheus.Metric) {
	to := sink(out)
	put(to, buildInfo, 1, s.Version, runtime.Version())
	collectNBD(to, s.NBD())
	vols := s.Volume()
	collectVolume(to, vols)
	collectClones(to, vols, s.Clones())
	cat, blocks := s.Catalog(), s.Dedup()
	collectCatalog(to, cat)
	collectDedup(to, blocks)
	collectPebble(to, "catalog", cat.Pebble)
	collectPebble(to, "index", blocks.Index)
	s.collectTier(to, blocks)
	collectMaintenance(to, s.Upkeep())
	collectAccounts(to, s.Accounts())
	collectFigures(to, s.Figures())
	collectOpened(to, s.Opened)
	s.collectSFTP(to)
	collectFiles(to, s.Files())
}

// NewHandler answers scrapes: the engines' metrics, the process's and Go's.
func NewHandler(s Sources, log *slog.Logger) (http.Handler, error) {
	r := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{s, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelError),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: scrapesMax,
		Timeout:             scrapeTimeout,
	}), nil
}
