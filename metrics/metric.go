package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/strongroom-backup/strongroom/internal/hist"
)

const namespace = "strongroom_"

// metric is a family: a name, what it means, its labels.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

// families are all metrics, in the order they are declared.
var families []metric

func family(kind prometheus.ValueType, name, help string, labels []string) metric {
	m := metric{desc: prometheus.NewDesc(namespace+name, help, labels, nil), kind: kind}
	families = append(families, m)
	return m
}

func counter(name, help string, labels ...string) metric {
	return family(prometheus.CounterValue, name, help, labels)
}

func gauge(name, help string, labels ...string) metric {
	return family(prometheus.GaugeValue, name, help, labels)
}

func histogram(name, help string, labels ...string) metric {
	return family(prometheus.UntypedValue, name, help, labels)
}

// sink receives the metrics of one scrape.
type sink chan<- prometheus.Metric

type number interface {
	~int | ~int32 | ~int64 | ~uint32 | ~uint64 | ~float64
}

// put sends a sample.
func put[N number](to sink, m metric, v N, labels ...string) {
	to <- prometheus.MustNewConstMetric(m.desc, m.kind, float64(v), labels...)
}

// putHist sends a histogram in seconds.
func putHist(to sink, m metric, s hist.Snapshot, labels ...string) {
	buckets := make(map[float64]uint64, hist.Buckets)
	var sum uint64
	for i := range hist.Buckets {
		sum += s.Counts[i]
		buckets[hist.UpperBound(i).Seconds()] = sum
	}
	to <- prometheus.MustNewConstHistogram(m.desc, sum+s.Counts[hist.Buckets], s.Sum.Seconds(), buckets, labels...)
}

// truth is 1 or 0.
func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
