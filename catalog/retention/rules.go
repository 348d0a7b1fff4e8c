package retention

import (
	"fmt"
	"time"
)

// rule keeps the newest point of each of count periods.
type rule struct {
	name  string
	count int
	// period names the period t lies in, by a number that is the same for two
	// times of one period only. nil: every point is a period of its own.
	period func(t time.Time) int64
	text   func(t time.Time) string
}

// rules are those of k that keep something, in the order they are looked at.
func rules(k Keep) []rule {
	all := [...]rule{
		{"keep-last", k.Last, nil, nil},
		{"keep-hourly", k.Hourly, hour, layout("2006-01-02 15h")},
		{"keep-daily", k.Daily, day, layout("2006-01-02")},
		{"keep-weekly", k.Weekly, week, weekText},
		{"keep-monthly", k.Monthly, month, layout("2006-01")},
		{"keep-yearly", k.Yearly, year, layout("2006")},
	}
	set := make([]rule, 0, len(all))
	for _, r := range all {
		if r.count > 0 {
			set = append(set, r)
		}
	}
	return set
}

func year(t time.Time) int64 { return int64(t.Year()) }

func month(t time.Time) int64 { return year(t)*12 + int64(t.Month()) - 1 }

func day(t time.Time) int64 { return month(t)*31 + int64(t.Day()) - 1 }

func hour(t time.Time) int64 { return day(t)*24 + int64(t.Hour()) }

func week(t time.Time) int64 {
	y, w := t.ISOWeek()
	return int64(y)*53 + int64(w) - 1
}

func weekText(t time.Time) string {
	y, w := t.ISOWeek()
	return fmt.Sprintf("%04d-W%02d", y, w)
}

func layout(l string) func(time.Time) string {
	return func(t time.Time) string { return t.Format(l) }
}
