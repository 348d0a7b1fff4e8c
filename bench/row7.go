package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
)

// barMark is the most seconds marking a million chunk records may take.
const barMark = 5

// row7 is the mark phase of a garbage collection over a million chunk records:
// the catalog's own benchmark, for which a store of 64 TiB would have to be
// filled otherwise.
func (b *bench) row7(ctx context.Context) error {
	out, err := command(ctx, nil, "go", "test", "-run", "^$", "-bench", "^BenchmarkMark$", "-benchtime", "3x",
		"github.com/strongroom-backup/strongroom/catalog")
	if err != nil {
		return err
	}
	seconds, err := benchSeconds(out)
	if err != nil {
		return fmt.Errorf("row 7: %w", err)
	}
	progress("row 7: %.2f s", seconds)
	b.report.Results = append(b.report.Results, result{
		Row: 7, Title: "mark of a million chunk records",
		Facts:    []fact{{"mark", int64(seconds * 1000), "ms"}},
		Verdicts: []verdict{{What: "seconds to mark", Ratio: seconds, Bar: barMark, AtMost: true}},
	})
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
