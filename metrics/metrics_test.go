package metrics

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/files"
	"github.com/strongroom-backup/strongroom/internal/hist"
	"github.com/strongroom-backup/strongroom/maintenance"
	"github.com/strongroom-backup/strongroom/nbd"
	"github.com/strongroom-backup/strongroom/sftp"
	"github.com/strongroom-backup/strongroom/tier"
	"github.com/strongroom-backup/strongroom/volume"
)

// sources are engines that have done a little of everything.
func sources(t *testing.T) Sources {
	t.Helper()
	db, err := pebble.Open("db", &pebble.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	var h hist.H
	for _, d := range []time.Duration{time.Microsecond, time.Millisecond, time.Hour} {
		h.Observe(d)
	}
	return Sources{
		Version: "v1",
		NBD: func() nbd.Stats {
			return nbd.Stats{ConnectionsOpen: 2, Commands: []nbd.CommandStats{
				{Command: "read", Requests: 3, Bytes: 4096, Latency: h.Snapshot(), Errors: map[string]uint64{"EIO": 1}},
				{Command: "write", Requests: 1, Bytes: 1, Latency: h.Snapshot()},
			}}
		},
		Volume: func() volume.Stats {
			return volume.Stats{Started: 2, Commits: h.Snapshot(), States: map[volume.State]int{volume.Open: 2}}
		},
		Clones: func() []volume.Status {
			disks := []volume.DiskStatus{{WrittenBytes: 10, JournalBytes: 3}, {WrittenBytes: 5, JournalBytes: 4}}
			return []volume.Status{
				{State: volume.Open, Started: time.UnixMilli(1_800_000_000_500), Disks: disks}, {State: volume.Stale, Started: time.UnixMilli(1_900_000_000_000)},
				{State: volume.Committed, Started: time.UnixMilli(1), Disks: disks},
			}
		},
		Catalog: func() catalog.Stats {
			return catalog.Stats{VMs: 1, Points: 2, Pebble: db.Metrics(), LastCommits: []catalog.LastCommit{
				{VM: "vm1", Disk: "vda", Time: time.UnixMilli(1_800_000_000_500)},
			}}
		},
		Dedup: func() dedup.Stats {
			return dedup.Stats{Put: dedup.PutResult{New: 7}, Packs: 5, OpenPacks: 2, SealingPacks: 1, Index: db.Metrics()}
		},
		Tier: func() (tier.Usage, error) { return tier.Usage{Total: 1000, Free: 10}, nil },
		Upkeep: func() maintenance.Stats {
			return maintenance.Stats{GC: maintenance.GCStats{
				Outcomes: maintenance.Outcomes{Runs: 5, Failures: 1, Cancelled: 1}, LastSuccess: time.UnixMilli(1_800_000_000_500),
				Phases: map[string]time.Duration{"mark": time.Second},
			}}
		},
		Accounts: func() catalog.AccountStats { return catalog.AccountStats{CatchUp: h.Snapshot()} },
		SFTP: func() sftp.Stats {
			return sftp.Stats{
				Connections: 5, Logins: 2, LoginsTotal: map[string]uint64{"key": 9}, LoginsFailed: map[string]uint64{"password": 4},
				Refused: map[string]uint64{"channel": 1}, Requests: []sftp.RequestStats{{Request: "write", Requests: 3, Latency: h.Snapshot()}},
			}
		},
		Files: func() files.Stats { return files.Stats{Imports: 2} },
		Figures: func() Figures {
			return Figures{
				Counted: time.UnixMilli(1_800_000_000_500), Held: 1, LongestChain: 3, VMs: []VMFigures{{VM: "vm1", Points: 2}},
				Disks: []DiskFigures{{VM: "vm1", Disk: "vda", Chain: 3, Usage: Usage{UniqueStored: 7}}},
			}
		},
		Reserve: 5,
	}
}

func TestLint(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(sources(t))
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// scrape asks the handler and parses the answer as Prometheus does.
func scrape(t *testing.T, s Sources) map[string]*dto.MetricFamily {
	t.Helper()
	h, err := NewHandler(s, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(w.Body)
	if err != nil || w.Code != 200 {
		t.Fatal(w.Code, err)
	}
	return families
}

func TestScrape(t *testing.T) {
	got := scrape(t, sources(t))
	for _, name := range []string{"strongroom_points", "go_goroutines", "process_open_fds"} {
		if got[name] == nil {
			t.Errorf("no %s", name)
		}
	}
	for _, m := range got["strongroom_packs"].GetMetric() {
		if want := map[string]float64{"open": 1, "sealing": 1, "sealed": 3}[m.Label[0].GetValue()]; m.Gauge.GetValue() != want {
			t.Errorf("packs %v, want %v", m, want)
		}
	}
	if v := got["strongroom_backup_last_success_timestamp_seconds"].GetMetric()[0].Gauge.GetValue(); v != 1_800_000_000.5 {
		t.Errorf("last backup at %v", v)
	}
	for _, m := range got["strongroom_jobs_total"].GetMetric() {
		if want := map[string]float64{"gcdone": 3, "gcfailed": 1, "gccancelled": 1}[m.Label[0].GetValue()+m.Label[1].GetValue()]; m.Counter.GetValue() != want {
			t.Errorf("jobs %v, want %v", m, want)
		}
	}
	for _, m := range got["strongroom_sftp_connections"].GetMetric() {
		if want := map[string]float64{"login": 2, "open": 3}[m.Label[0].GetValue()]; m.Gauge.GetValue() != want {
			t.Errorf("SFTP connections %v, want %v", m, want)
		}
	}
	for _, m := range got["strongroom_clones"].GetMetric() {
		if want := map[string]float64{"open": 1, "stale": 1}[m.Label[0].GetValue()]; m.Gauge.GetValue() != want {
			t.Errorf("clones %v, want %v", m, want)
		}
	}
	for name, want := range map[string]float64{"journal_bytes": 7, "oldest_timestamp_seconds": 1_800_000_000.5} {
		if v := got["strongroom_clone_"+name].GetMetric()[0].Gauge.GetValue(); v != want {
			t.Errorf("clone_%s is %v, want %v", name, v, want)
		}
	}
	h := got["strongroom_nbd_request_duration_seconds"].GetMetric()[0].Histogram
	var top uint64
	for _, b := range h.Bucket {
		if b.GetCumulativeCount() < top {
			t.Errorf("bucket %v is below the one before it", b)
		}
		top = b.GetCumulativeCount()
	}
	if h.GetSampleCount() != 3 || h.Bucket[0].GetCumulativeCount() != 1 || h.GetSampleSum() < 3600 {
		t.Errorf("histogram %v", h)
	}
}

// Closed databases, a tier that cannot tell, and very many disks.
func TestUnknownsAndBounds(t *testing.T) {
	s := sources(t)
	many := make([]catalog.LastCommit, lastBackupsMax+5)
	for i := range many {
		many[i] = catalog.LastCommit{VM: "vm" + strings.Repeat("x", i%100), Disk: string(rune('a'+i%26)) + strings.Repeat("y", i/2600)}
	}
	s.Catalog = func() catalog.Stats { return catalog.Stats{LastCommits: unique(many)} }
	s.Dedup = func() dedup.Stats { return dedup.Stats{} }
	s.Tier = func() (tier.Usage, error) { return tier.Usage{}, errors.New("unplugged") }
	s.SFTP = nil
	got := scrape(t, s)
	if got["strongroom_tier_capacity_bytes"] != nil || got["strongroom_pebble_wal_files"] != nil || got["strongroom_sftp_connections"] != nil {
		t.Error("what is not known is exported")
	}
	if n := len(got["strongroom_backup_last_success_timestamp_seconds"].GetMetric()); n > lastBackupsMax {
		t.Errorf("%d disks are shown", n)
	}
}

func unique(list []catalog.LastCommit) (out []catalog.LastCommit) {
	seen := map[catalog.LastCommit]bool{}
	for i, l := range list {
		for seen[l] {
			l.Disk += string(rune('0' + i%10))
		}
		seen[l] = true
		out = append(out, l)
	}
	return out
}

var documented = regexp.MustCompile("(?m)^\\| `(strongroom_[a-z0-9_]+)` \\| ([a-z]+) \\| ([^|]*) \\| (.+) \\|$")

// docs/OPERATIONS.md has every metric with its kind, labels and help.
func TestDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for _, m := range documented.FindAllStringSubmatch(string(text), -1) {
		rows[m[1]] = m[0]
	}
	for _, m := range families {
		name, row := tableRow(t, m)
		if rows[name] != row {
			t.Errorf("docs/OPERATIONS.md says\n%s\nbut it is\n%s", rows[name], row)
		}
		delete(rows, name)
	}
	for name := range rows {
		t.Errorf("docs/OPERATIONS.md has %s, which does not exist", name)
	}
}

var described = regexp.MustCompile(`^Desc\{fqName: "(.*)", help: "(.*)", unit: "", constLabels: \{\}, variableLabels: \{(.*)\}\}$`)

// tableRow is a metric as the documentation has it.
func tableRow(t *testing.T, m metric) (name, row string) {
	t.Helper()
	d := described.FindStringSubmatch(m.desc.String())
	if d == nil {
		t.Fatal(m.desc)
	}
	kind := map[prometheus.ValueType]string{
		prometheus.CounterValue: "counter", prometheus.GaugeValue: "gauge", prometheus.UntypedValue: "histogram",
	}[m.kind]
	return d[1], fmt.Sprintf("| `%s` | %s | %s | %s |", d[1], kind, strings.ReplaceAll(d[3], ",", ", "), d[2])
}

var _ prometheus.Collector = Sources{}
