package retention

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// second is the same rules written another way: names of periods as text, and
// for each point and rule a look at all others.
func second(points []Point, k Keep, loc *time.Location) map[string]bool {
	var order []Point
	keep := map[string]bool{}
	for _, p := range points {
		if p.Exempt != "" {
			keep[p.ID] = true
			continue
		}
		order = append(order, p)
	}
	if (k == Keep{}) {
		for _, p := range order {
			keep[p.ID] = true
		}
		return keep
	}
	slices.SortFunc(order, func(a, b Point) int {
		return cmp.Or(cmp.Compare(b.Time.UnixNano(), a.Time.UnixNano()), cmp.Compare(b.ID, a.ID))
	})
	name := []func(Point) string{
		func(p Point) string { return p.ID },
		func(p Point) string { return p.Time.In(loc).Format("2006/01/02/15") },
		func(p Point) string { return p.Time.In(loc).Format("2006/01/02") },
		func(p Point) string { y, w := p.Time.In(loc).ISOWeek(); return fmt.Sprint(y, "/", w) },
		func(p Point) string { return p.Time.In(loc).Format("2006/01") },
		func(p Point) string { return p.Time.In(loc).Format("2006") },
	}
	ruled, dropped := map[string]bool{}, map[string]bool{}
	for i, count := range []int{k.Last, k.Hourly, k.Daily, k.Weekly, k.Monthly, k.Yearly} {
		before := map[string]bool{}
		for _, p := range order {
			if ruled[p.ID] {
				before[name[i](p)] = true
			}
		}
		var mine []string
		for _, p := range order {
			period := name[i](p)
			switch {
			case ruled[p.ID] || dropped[p.ID] || before[period]:
			case slices.Contains(mine, period):
				dropped[p.ID] = true
			case len(mine) == count:
				goto next
			default:
				mine = append(mine, period)
				ruled[p.ID] = true
			}
		}
	next:
	}
	for id := range ruled {
		keep[id] = true
	}
	return keep
}

func TestAgainstSecond(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("STRONGROOM_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("STRONGROOM_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	places := []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu"}
	for round := range 3000 {
		loc, err := time.LoadLocation(places[rng.IntN(len(places))])
		if err != nil {
			t.Fatal(err)
		}
		points, k := randomPoints(rng), randomKeep(rng)
		compare(t, points, k, loc)
		if t.Failed() {
			t.Fatalf("round %d: %+v in %s of %v", round, k, loc, points)
		}
	}
}

func compare(t *testing.T, points []Point, k Keep, loc *time.Location) {
	t.Helper()
	want := second(points, k, loc)
	got := Evaluate(points, k, loc)
	if len(got) != len(points) {
		t.Fatalf("%d verdicts for %d points", len(got), len(points))
	}
	for i, v := range got {
		if v.ID != points[i].ID || v.Keep != want[v.ID] || v.Reason == "" {
			t.Errorf("point %s at %s: %+v, want keep %v", points[i].ID, points[i].Time.In(loc), v, want[v.ID])
		}
	}
}

func randomPoints(rng *rand.Rand) []Point {
	// From minutes to years apart, around changes of the clock and of the year.
	starts := []int64{1319936400, 1325203200, 1774746000, 1792893600, 1798675200, 1609459200}
	at := starts[rng.IntN(len(starts))] + rng.Int64N(86400) - 43200
	step := []int64{60, 1800, 3600, 40000, 86400, 400000, 3000000, 20000000}[rng.IntN(8)]
	var points []Point
	for i := range rng.IntN(40) {
		if rng.IntN(8) > 0 {
			at += rng.Int64N(step)
		}
		p := Point{ID: fmt.Sprintf("p%02d", i), Time: time.Unix(at, 0)}
		if rng.IntN(10) == 0 {
			p.Exempt = "held"
		}
		points = append(points, p)
	}
	rng.Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
	return points
}

func randomKeep(rng *rand.Rand) (k Keep) {
	for _, n := range []*int{&k.Last, &k.Hourly, &k.Daily, &k.Weekly, &k.Monthly, &k.Yearly} {
		if rng.IntN(2) == 0 {
			*n = rng.IntN(6)
		}
	}
	return k
}

func FuzzEvaluate(f *testing.F) {
	f.Add(uint64(1), uint8(1), uint8(0), uint8(2), uint8(1), uint8(1), uint8(1), "Europe/Berlin")
	f.Add(uint64(2), uint8(0), uint8(3), uint8(0), uint8(4), uint8(0), uint8(0), "UTC")
	f.Add(uint64(3), uint8(0), uint8(0), uint8(0), uint8(1), uint8(1), uint8(9), "Pacific/Apia")
	f.Fuzz(func(t *testing.T, seed uint64, last, hourly, daily, weekly, monthly, yearly uint8, place string) {
		loc, err := time.LoadLocation(place)
		if err != nil || place == "Local" {
			loc = time.UTC
		}
		points := randomPoints(rand.New(rand.NewPCG(seed, 1)))
		compare(t, points, Keep{int(last), int(hourly), int(daily), int(weekly), int(monthly), int(yearly)}, loc)
	})
}

// BenchmarkEvaluate judges 100,000 points, one every ten minutes.
func BenchmarkEvaluate(b *testing.B) {
	points := make([]Point, 100_000)
	for i := range points {
		points[i] = Point{ID: fmt.Sprintf("%016d", i), Time: time.Unix(1_700_000_000+int64(i)*600, 0)}
	}
	loc, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		Evaluate(points, Keep{Last: 10, Hourly: 48, Daily: 30, Weekly: 20, Monthly: 24, Yearly: 5}, loc)
	}
}
