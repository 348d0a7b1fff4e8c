package retention

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the tests name places
)

// TestEvaluate has one case per sentence of the package's rules. A case lists
// points by their local time; the time is the point's id too, so that what is
// kept can be read off.
func TestEvaluate(t *testing.T) {
	tests := []struct {
		name   string
		place  string
		keep   Keep
		points string // local times, any order
		want   string // the kept ones, newest first
	}{{
		name:   "no rule keeps everything",
		points: "2026-11-18T10:00 2026-11-17T10:00",
		want:   "2026-11-18T10:00 2026-11-17T10:00",
	}, {
		name: "no points",
		keep: Keep{Last: 3},
	}, {
		name:   "last counts points, not time",
		keep:   Keep{Last: 2},
		points: "2026-11-18T10:00 2020-01-01T00:00 2026-11-18T10:01",
		want:   "2026-11-18T10:01 2026-11-18T10:00",
	}, {
		name:   "more slots than points",
		keep:   Keep{Last: 9},
		points: "2026-11-18T10:00 2026-11-17T10:00",
		want:   "2026-11-18T10:00 2026-11-17T10:00",
	}, {
		name:   "the newest of each hour",
		keep:   Keep{Hourly: 2},
		points: "2026-11-18T09:00 2026-11-18T09:59 2026-11-18T10:00 2026-11-18T10:30 2026-11-18T08:59",
		want:   "2026-11-18T10:30 2026-11-18T09:59",
	}, {
		name:   "empty periods do not count",
		keep:   Keep{Daily: 3},
		points: "2026-11-18T10:00 2026-11-10T10:00 2026-03-01T10:00 2026-02-01T10:00",
		want:   "2026-11-18T10:00 2026-11-10T10:00 2026-03-01T10:00",
	}, {
		name:   "a day an earlier rule covers takes no slot",
		keep:   Keep{Last: 1, Daily: 2},
		points: "2026-11-18T10:00 2026-11-18T09:00 2026-11-17T10:00 2026-11-17T09:00 2026-11-16T10:00 2026-11-15T10:00",
		want:   "2026-11-18T10:00 2026-11-17T10:00 2026-11-16T10:00",
	}, {
		name:   "the rules go on from where the one before ended",
		keep:   Keep{Daily: 2, Monthly: 2, Yearly: 1},
		points: "2026-11-18T10:00 2026-11-17T10:00 2026-11-16T10:00 2026-10-31T10:00 2026-10-30T10:00 2026-09-30T10:00 2026-08-31T10:00 2025-12-31T10:00 2024-12-31T10:00",
		want:   "2026-11-18T10:00 2026-11-17T10:00 2026-10-31T10:00 2026-09-30T10:00 2025-12-31T10:00",
	}, {
		name:   "weeks begin on Monday",
		keep:   Keep{Weekly: 2},
		points: "2026-11-16T00:00 2026-11-15T23:59 2026-11-15T00:00 2026-11-09T00:00 2026-11-08T23:59",
		want:   "2026-11-16T00:00 2026-11-15T23:59",
	}, {
		name:   "a week of two years is one week",
		keep:   Keep{Weekly: 2},
		points: "2021-01-03T12:00 2020-12-28T12:00 2020-12-27T12:00", // 2020-W53, W53, W52
		want:   "2021-01-03T12:00 2020-12-27T12:00",
	}, {
		name:   "the first days of January may be of the old year's week",
		keep:   Keep{Weekly: 1, Yearly: 2},
		points: "2027-01-01T12:00 2026-12-31T12:00 2026-12-27T12:00 2025-06-01T12:00",
		want:   "2027-01-01T12:00 2026-12-27T12:00 2025-06-01T12:00",
	}, {
		name: "a point of a week that is decided is not kept as its month's",
		keep: Keep{Weekly: 1, Monthly: 1},
		// The 30th of November is in the week of the 1st of December.
		points: "2026-12-01T12:00 2026-11-30T12:00 2026-11-29T12:00",
		want:   "2026-12-01T12:00 2026-11-29T12:00",
	}, {
		name:   "a point of a week an earlier rule covers may be kept as its month's",
		keep:   Keep{Last: 1, Weekly: 1, Monthly: 1},
		points: "2026-12-01T12:00 2026-11-30T12:00 2026-10-31T12:00 2026-10-01T12:00",
		want:   "2026-12-01T12:00 2026-11-30T12:00 2026-10-31T12:00",
	}, {
		name: "the hour that comes twice is one hour",
		// 02:00 to 03:00 on the 25th of October 2026, once at +2, once at +1.
		place:  "Europe/Berlin",
		keep:   Keep{Hourly: 3},
		points: "2026-10-25T00:30Z 2026-10-25T01:30Z 2026-10-25T02:30Z 2026-10-24T23:30Z",
		want:   "2026-10-25T02:30Z 2026-10-25T01:30Z 2026-10-24T23:30Z",
	}, {
		name:   "the hour that is left out is no hour",
		place:  "Europe/Berlin",
		keep:   Keep{Hourly: 3},
		points: "2026-03-29T00:30Z 2026-03-29T01:30Z 2026-03-28T23:30Z 2026-03-28T22:30Z",
		want:   "2026-03-29T01:30Z 2026-03-29T00:30Z 2026-03-28T23:30Z",
	}, {
		name:   "a day of 23 hours is a day",
		place:  "Europe/Berlin",
		keep:   Keep{Daily: 2},
		points: "2026-03-28T22:59Z 2026-03-28T23:00Z 2026-03-29T21:59Z 2026-03-29T22:00Z",
		want:   "2026-03-29T22:00Z 2026-03-29T21:59Z",
	}, {
		name:   "a day of 25 hours is a day",
		place:  "America/New_York",
		keep:   Keep{Daily: 2},
		points: "2026-11-01T03:59Z 2026-11-01T04:00Z 2026-11-02T04:59Z 2026-11-02T05:00Z",
		want:   "2026-11-02T05:00Z 2026-11-02T04:59Z",
	}, {
		name:   "midnight is the place's",
		place:  "Asia/Tokyo",
		keep:   Keep{Daily: 1},
		points: "2026-11-18T14:59Z 2026-11-18T15:00Z",
		want:   "2026-11-18T15:00Z",
	}, {
		name:   "a day a place left out",
		place:  "Pacific/Apia", // there was no 30th of December 2011
		keep:   Keep{Daily: 2},
		points: "2011-12-31T10:30Z 2011-12-30T10:30Z 2011-12-30T09:30Z 2011-12-29T10:30Z",
		want:   "2011-12-31T10:30Z 2011-12-30T10:30Z",
	}, {
		name:   "an exempt point stays, takes no slot and covers nothing",
		keep:   Keep{Last: 1, Daily: 1},
		points: "2026-11-18T10:00! 2026-11-18T09:00 2026-11-17T10:00! 2026-11-17T09:00 2026-11-16T10:00",
		want:   "2026-11-18T10:00! 2026-11-18T09:00 2026-11-17T10:00! 2026-11-17T09:00",
	}, {
		name:   "a rule that is off is passed over",
		keep:   Keep{Yearly: 2},
		points: "2026-11-18T10:00 2026-01-01T00:00 2025-12-31T23:59 2024-02-29T00:00",
		want:   "2026-11-18T10:00 2025-12-31T23:59",
	}, {
		name:   "a count below 0 is 0",
		keep:   Keep{Last: -3, Daily: 1},
		points: "2026-11-18T10:00 2026-11-17T10:00",
		want:   "2026-11-18T10:00",
	}, {
		name:   "nothing but counts below 0 keeps everything",
		keep:   Keep{Last: -3},
		points: "2026-11-18T10:00 2026-11-17T10:00",
		want:   "2026-11-18T10:00 2026-11-17T10:00",
	}}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			loc, err := time.LoadLocation(test.place)
			if err != nil {
				t.Fatal(err)
			}
			points := parsePoints(t, test.points)
			got := kept(Evaluate(points, test.keep, loc))
			slices.Reverse(points)
			again := kept(Evaluate(points, test.keep, loc))
			slices.Reverse(again)
			if want := strings.Fields(test.want); !equalSets(got, want) || !equalSets(again, want) {
				t.Errorf("kept %v, from the other end %v, want %v", got, again, want)
			}
		})
	}
}

// parsePoints reads points such as 2026-11-18T10:00, with Z when the place is
// not UTC, to say that the time is, and ! when the point is exempt.
func parsePoints(t *testing.T, text string) (points []Point) {
	for _, id := range strings.Fields(text) {
		p := Point{ID: id}
		if strings.HasSuffix(id, "!") {
			p.Exempt = "held"
		}
		var err error
		if p.Time, err = time.Parse("2006-01-02T15:04", strings.TrimRight(id, "Z!")); err != nil {
			t.Fatal(err)
		}
		points = append(points, p)
	}
	return points
}

func kept(verdicts []Verdict) (ids []string) {
	for _, v := range verdicts {
		if v.Keep {
			ids = append(ids, v.ID)
		}
	}
	return ids
}

func equalSets(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

func TestSameInstant(t *testing.T) {
	at := time.Date(2026, 11, 18, 10, 0, 0, 0, time.UTC)
	points := []Point{{ID: "b", Time: at}, {ID: "c", Time: at}, {ID: "a", Time: at}}
	for _, test := range []struct {
		keep Keep
		want []string
	}{
		{Keep{Last: 1}, []string{"c"}},
		{Keep{Last: 2}, []string{"b", "c"}},
		{Keep{Hourly: 5}, []string{"c"}},
		{Keep{Last: 1, Hourly: 5}, []string{"c"}},
	} {
		if got := kept(Evaluate(points, test.keep, nil)); !equalSets(got, test.want) {
			t.Errorf("%+v keeps %v, want %v", test.keep, got, test.want)
		}
	}
}

func TestReasons(t *testing.T) {
	points := parsePoints(t, "2026-11-18T10:00 2026-11-18T09:00 2026-11-17T10:00 2026-11-16T10:00! "+
		"2026-11-15T10:00 2026-11-09T10:00 2026-10-04T10:00 2025-12-31T10:00 2024-12-31T10:00 2023-12-31T10:00")
	want := []string{
		"keep-last 1 of 1",
		"covered by 2026-11-18T10:00 (keep-daily 2026-11-18)",
		"keep-daily 1 of 1 (2026-11-17)",
		"held",
		"keep-weekly 1 of 2 (2026-W46)",
		"covered by 2026-11-15T10:00 (keep-weekly 2026-W46)",
		"keep-weekly 2 of 2 (2026-W40)",
		"keep-monthly 1 of 1 (2025-12)",
		"keep-yearly 1 of 1 (2024)",
		"no rule keeps it",
	}
	for i, v := range Evaluate(points, Keep{Last: 1, Daily: 1, Weekly: 2, Monthly: 1, Yearly: 1}, time.UTC) {
		if v.ID != points[i].ID || v.Reason != want[i] {
			t.Errorf("point %s: %+v, want %q", points[i].ID, v, want[i])
		}
	}
	hourly := Evaluate(points[:2], Keep{Hourly: 1}, time.UTC)
	if got := hourly[0].Reason; got != "keep-hourly 1 of 1 (2026-11-18 10h)" {
		t.Error(got)
	}
	for i, v := range Evaluate(points[2:4], Keep{}, time.UTC) {
		if want := []string{"no keep rule is set", "held"}[i]; v.Reason != want {
			t.Errorf("%q, want %q", v.Reason, want)
		}
	}
}

func TestKeepText(t *testing.T) {
	text, err := json.Marshal(Keep{Last: 3, Hourly: 24, Daily: 7, Weekly: 4, Monthly: 12, Yearly: 10})
	const want = `{"keep-last":3,"keep-hourly":24,"keep-daily":7,"keep-weekly":4,"keep-monthly":12,"keep-yearly":10}`
	if err != nil || string(text) != want {
		t.Errorf("%s, %v; want %s", text, err, want)
	}
	if text, _ := json.Marshal(Keep{}); string(text) != "{}" {
		t.Errorf("%s, want {}", text)
	}
	if err := (Keep{Daily: -1}).Validate(); err == nil {
		t.Error("a count of -1 is valid")
	}
	if err := (Keep{Daily: 1}).Validate(); err != nil {
		t.Error(err)
	}
}
