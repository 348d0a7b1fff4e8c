package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/strongroom-backup/strongroom/internal/units"
)

// report is all that a run found out.
type report struct {
	Started time.Time `json:"started"`
	Rounds  int       `json:"rounds"`
	Machine machine   `json:"machine"`
	Image   imageInfo `json:"image"`
	Results []result  `json:"results"`
}

// imageInfo describes the disk.
type imageInfo struct {
	Size   int64  `json:"size_bytes"`
	Data   int64  `json:"data_bytes"`
	Files  int    `json:"files"`
	SHA256 string `json:"sha256"`
}

func (img *image) describe() imageInfo {
	return imageInfo{img.Size, img.dataBytes(), len(img.Files), img.hash}
}

func (r *report) writeJSON(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// print writes the report for people, rows in order.
func (r *report) print(w io.Writer) {
	slices.SortStableFunc(r.Results, func(a, b result) int { return a.Row - b.Row })
	r.Machine.print(w)
	fmt.Fprintf(w, "\ndisk     ext4 of %v with %d files, %v of data, sha256 %.16s…\nrounds   %d, in turns, after one warm-up; begun %s\n",
		units.Size(r.Image.Size), r.Image.Files, bytesText(r.Image.Data), r.Image.SHA256, r.Rounds, r.Started.Format(time.RFC3339))
	for _, one := range r.Results {
		fmt.Fprintf(w, "\nROW %d  %s\n", one.Row, one.Title)
		one.printEntries(w)
		one.printFacts(w)
		one.printVerdicts(w)
	}
	r.printSummary(w)
}

// printSummary counts the bars and names those missed.
func (r *report) printSummary(w io.Writer) {
	var held int
	var missed []string
	for _, one := range r.Results {
		for _, v := range one.Verdicts {
			switch {
			case v.Bar == 0:
			case v.held():
				held++
			default:
				missed = append(missed, fmt.Sprintf("  row %d: %s is %s, %s", one.Row, v.What, number(v.Ratio), v.text()))
			}
		}
	}
	fmt.Fprintf(w, "\n%d bars held, %d missed\n", held, len(missed))
	for _, m := range missed {
		fmt.Fprintln(w, m)
	}
}

func (m machine) print(w io.Writer) {
	fmt.Fprintf(w, "machine  %s, %d cores (cache %s), %v memory\nsystem   %s, Linux %s, %s\nload     %s before the start\n",
		m.CPU, m.Cores, m.Cache, bytesText(m.Memory), m.System, m.Kernel, m.FileSystem, m.LoadBefore)
	for i, v := range m.Versions {
		head := "        "
		if i == 0 {
			head = "versions"
		}
		fmt.Fprintf(w, "%s %s\n", head, v)
	}
}

func (r result) printEntries(w io.Writer) {
	if len(r.Entries) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "seconds min\tmedian\tmax\t%s median\tCPU s client\tserver\tother\tserver peak\ton disk\t  contender\n", r.Unit)
	for _, e := range r.Entries {
		s := e.seconds()
		fmt.Fprintf(t, "%.2f\t%.2f\t%.2f\t%.0f\t%s\t%s\t%s\t%s\t%s\t  %s\n", slices.Min(s), median(s), slices.Max(s), median(e.speeds()),
			e.cpu(func(s sample) float64 { return s.ClientCPU }),
			e.cpu(func(s sample) float64 { return s.ServerCPU }),
			e.cpu(func(s sample) float64 { return s.OtherCPU }),
			e.bytes(func(s sample) int64 { return s.ServerPeak }),
			e.bytes(func(s sample) int64 { return s.Stored }), e.label())
	}
	_ = t.Flush()
}

func (e entry) label() string {
	if e.Note == "" {
		return e.Name
	}
	return e.Name + " (" + e.Note + ")"
}

func (e entry) cpu(f func(sample) float64) string { return fmt.Sprintf("%.2f", median(e.each(f))) }

// bytes is the largest of all rounds.
func (e entry) bytes(f func(sample) int64) string {
	n := slices.Max(e.each(func(s sample) float64 { return float64(f(s)) }))
	if n == 0 {
		return "-"
	}
	return bytesText(int64(n))
}

func (r result) printFacts(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, f := range r.Facts {
		fmt.Fprintf(t, "%d\t%s\t  %s\n", f.Value, f.Unit, f.Name)
	}
	_ = t.Flush()
}

func (r result) printVerdicts(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, v := range r.Verdicts {
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\n", v.What, number(v.Ratio), v.rounds(), v.text())
	}
	_ = t.Flush()
}

func (v verdict) rounds() string {
	if len(v.Rounds) == 0 {
		return ""
	}
	var out []string
	for _, r := range v.Rounds {
		out = append(out, number(r))
	}
	return "rounds " + strings.Join(out, " ")
}

func (v verdict) text() string {
	if v.Bar == 0 {
		return ""
	}
	sign, word := "≥", "MISSED"
	if v.AtMost {
		sign = "≤"
	}
	if v.held() {
		word = "held"
	}
	return fmt.Sprintf("bar %s %v: %s", sign, v.Bar, word)
}

// number shows a ratio with three digits that mean something.
func number(r float64) string {
	if r != 0 && r < 0.01 {
		return fmt.Sprintf("%.2g", r)
	}
	return fmt.Sprintf("%.2f", r)
}

// bytesText is a size with a unit, for reading, not for computing.
func bytesText(n int64) string {
	if n < int64(units.GiB) {
		return fmt.Sprintf("%.0f MiB", float64(n)/float64(units.MiB))
	}
	return fmt.Sprintf("%.2f GiB", float64(n)/float64(units.GiB))
}
