package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
)

// barMark is the most seconds marking a million chunk records may take.
const barMark = 5

// row7 is the mark phase of a garbage collection over a million chunk records,
// by the benchmarks of the two packages that do it: the catalog reads and
// decodes the records, the packs' bitmaps take their runs. A store of 64 TiB
// would have to be filled otherwise.
func (b *bench) row7(ctx context.Context) error {
	r := result{Row: 7, Title: "mark of a million chunk records"}
	var sum float64
	for _, k := range [][2]string{{"catalog", "^BenchmarkMark$"}, {"dedup", "^BenchmarkMark$/^32runs$"}} {
		part := k[0]
		out, err := command(ctx, nil, "go", "test", "-run", "^$", "-bench", k[1], "-benchtime", "5x",
			"github.com/strongroom-backup/strongroom/"+part)
		if err != nil {
			return err
		}
		seconds, err := benchSeconds(out)
		if err != nil {
			return fmt.Errorf("row 7, %s: %w", part, err)
		}
		progress("row 7: %s %.2f s", part, seconds)
		r.Facts = append(r.Facts, fact{part, int64(seconds * 1000), "ms"})
		sum += seconds
	}
	r.Verdicts = []verdict{{What: "seconds to mark", Ratio: sum, Bar: barMark, AtMost: true}}
	b.report.Results = append(b.report.Results, r)
	return nil
}

var benchLine = regexp.MustCompile(`(?m)^Benchmark\S+\s+\d+\s+([0-9.]+) ns/op`)

// benchSeconds reads the time of one operation from go test's output.
func benchSeconds(out []byte) (float64, error) {
	m := benchLine.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("go test's report is not understood:\n%s", out)
	}
	ns, err := strconv.ParseFloat(string(m[1]), 64)
	return ns / 1e9, err
}
