package main

import (
	"context"
	"fmt"
	"slices"
)

// contender does a contest's work in its own way.
type contender struct {
	name string
	note string
	ours bool
	slow bool    // no warm-up: a turn is too long to throw away
	bar  float64 // a peer's: the least ratio of our speed to its; 0: only shown
	free bool    // ours: no bar applies, only shown
	// turn prepares one turn. What it does itself is not measured.
	turn func(ctx context.Context) (trial, error)
}

// contest is a piece of work that several contenders do in turns.
type contest struct {
	row        int
	title      string
	unit       string // of speed
	contenders []contender
}

// result is a contest that has been held.
type result struct {
	Row      int       `json:"row"`
	Title    string    `json:"title"`
	Unit     string    `json:"unit,omitempty"`
	Entries  []entry   `json:"entries,omitempty"`
	Facts    []fact    `json:"facts,omitempty"`
	Verdicts []verdict `json:"verdicts"`
}

// entry is one contender's turns.
type entry struct {
	Name    string   `json:"name"`
	Note    string   `json:"note,omitempty"`
	Samples []sample `json:"samples"`
}

// fact is a measured quantity that is no speed.
type fact struct {
	Name  string `json:"name"`
	Value int64  `json:"value"`
	Unit  string `json:"unit"`
}

// verdict compares two entries, or two facts, with a bar.
type verdict struct {
	What   string    `json:"what"`
	Ratio  float64   `json:"ratio"`
	Rounds []float64 `json:"rounds,omitempty"`
	Bar    float64   `json:"bar,omitempty"` // 0: only shown
	AtMost bool      `json:"at_most,omitempty"`
}

func (v verdict) held() bool {
	if v.AtMost {
		return v.Ratio <= v.Bar
	}
	return v.Ratio >= v.Bar
}

// hold lets every contender have its warm-up and its rounds, in turns.
func (c contest) hold(ctx context.Context, rounds int) (result, error) {
	r := result{Row: c.row, Title: c.title, Unit: c.unit}
	for _, k := range c.contenders {
		r.Entries = append(r.Entries, entry{Name: k.name, Note: k.note})
	}
	for round := range rounds + 1 {
		for i, k := range c.contenders {
			if round == 0 && k.slow {
				continue
			}
			s, err := k.play(ctx)
			if err != nil {
				return r, fmt.Errorf("row %d, %s: %w", c.row, k.name, err)
			}
			progress("row %d, round %d of %d: %-42s %7.2f s  %8.0f %s", c.row, round, rounds, k.name, s.Seconds, s.Speed, c.unit)
			if round > 0 {
				r.Entries[i].Samples = append(r.Entries[i].Samples, s)
			}
		}
	}
	r.Verdicts = c.verdicts(r.Entries)
	return r, nil
}

func (k contender) play(ctx context.Context) (sample, error) {
	t, err := k.turn(ctx)
	if err != nil {
		return sample{}, err
	}
	return measure(t)
}

// verdicts compares each of ours with each peer.
func (c contest) verdicts(entries []entry) (out []verdict) {
	for i, ours := range c.contenders {
		for j, peer := range c.contenders {
			if !ours.ours || peer.ours {
				continue
			}
			bar := peer.bar
			if ours.free {
				bar = 0
			}
			out = append(out, compare(entries[i], entries[j], bar))
		}
	}
	return out
}

func compare(ours, peer entry, bar float64) verdict {
	v := verdict{What: ours.Name + " / " + peer.Name, Bar: bar}
	v.Ratio = median(ours.speeds()) / median(peer.speeds())
	for i := range ours.Samples {
		v.Rounds = append(v.Rounds, ours.Samples[i].Speed/peer.Samples[i].Speed)
	}
	return v
}

func (e entry) speeds() []float64 {
	return e.each(func(s sample) float64 { return s.Speed })
}

func (e entry) seconds() []float64 {
	return e.each(func(s sample) float64 { return s.Seconds })
}

func (e entry) each(f func(sample) float64) (out []float64) {
	for _, s := range e.Samples {
		out = append(out, f(s))
	}
	return out
}

// median of at least one value.
func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
