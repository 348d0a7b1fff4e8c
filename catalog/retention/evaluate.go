package retention

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

// Point is what the rules look at.
type Point struct {
	ID   string
	Time time.Time
	// Exempt is why the point stays whatever the rules say: held, locked until
	// a date, manual. Empty: the rules decide.
	Exempt string
}

// Verdict is what becomes of a point.
type Verdict struct {
	ID   string
	Keep bool
	// Reason says why, to an operator.
	Reason string
}

// Reasons that name no rule.
const (
	reasonNoRules = "no keep rule is set"
	reasonNone    = "no rule keeps it"
)

// Evaluate says of each point whether k keeps it, on the wall clock of loc (nil
// is UTC). The points may come in any order; verdict i is that of point i. A
// count below 0 is taken for 0.
func Evaluate(points []Point, k Keep, loc *time.Location) []Verdict {
	verdicts := make([]Verdict, len(points))
	if k.Everything() {
		for i, p := range points {
			verdicts[i] = Verdict{p.ID, true, cmp.Or(p.Exempt, reasonNoRules)}
		}
		return verdicts
	}
	e := newEvaluation(points, loc)
	for _, r := range rules(k) {
		e.apply(r)
	}
	for _, c := range e.open {
		verdicts[c.place] = e.verdict(c)
	}
	for i, p := range points {
		if p.Exempt != "" {
			verdicts[i] = Verdict{p.ID, true, p.Exempt}
		}
	}
	return verdicts
}

// candidate is a point the rules decide about.
type candidate struct {
	id    string
	local time.Time
	place int // among the points given
	// keptBy is the rule that keeps it, as its nth point; nil: none does.
	keptBy *rule
	nth    int
	// gone: a rule kept a newer point of its period, so no later rule may
	// keep it.
	gone bool
	// by is the kept point that covers it at the first rule that met it.
	by *candidate
	// of is that rule.
	of *rule
}

type evaluation struct {
	open []*candidate // newest first
}

func newEvaluation(points []Point, loc *time.Location) *evaluation {
	if loc == nil {
		loc = time.UTC
	}
	e := &evaluation{open: make([]*candidate, 0, len(points))}
	room := make([]candidate, len(points))
	for i, p := range points {
		if p.Exempt == "" {
			room[i] = candidate{id: p.ID, local: p.Time.In(loc), place: i}
			e.open = append(e.open, &room[i])
		}
	}
	slices.SortStableFunc(e.open, func(a, b *candidate) int {
		return cmp.Or(b.local.Compare(a.local), cmp.Compare(b.id, a.id))
	})
	return e
}

// apply lets one rule keep what it keeps.
func (e *evaluation) apply(r rule) {
	if r.period == nil {
		e.applyLast(r)
		return
	}
	earlier := make(map[int64]*candidate) // periods that earlier rules cover
	for _, c := range e.open {
		if c.keptBy != nil {
			if p := r.period(c.local); earlier[p] == nil {
				earlier[p] = c
			}
		}
	}
	own := make(map[int64]*candidate)
	for _, c := range e.open {
		if c.keptBy != nil || c.gone {
			continue
		}
		p := r.period(c.local)
		if by := earlier[p]; by != nil {
			c.cover(by, &r)
			continue
		}
		if by := own[p]; by != nil {
			c.cover(by, &r)
			c.gone = true
			continue
		}
		if len(own) == r.count {
			return
		}
		own[p] = c
		c.keptBy, c.nth = &r, len(own)
	}
}

// applyLast is apply for the rule whose periods are the points.
func (e *evaluation) applyLast(r rule) {
	for i, c := range e.open[:min(r.count, len(e.open))] {
		c.keptBy, c.nth = &r, i+1
	}
}

func (c *candidate) cover(by *candidate, of *rule) {
	if c.by == nil {
		c.by, c.of = by, of
	}
}

func (e *evaluation) verdict(c *candidate) Verdict {
	v := Verdict{ID: c.id, Keep: c.keptBy != nil, Reason: reasonNone}
	switch {
	case v.Keep:
		v.Reason = c.keptBy.name + " " + strconv.Itoa(c.nth) + " of " + strconv.Itoa(c.keptBy.count)
		if c.keptBy.text != nil {
			v.Reason += " (" + c.keptBy.text(c.local) + ")"
		}
	case c.by != nil:
		v.Reason = "covered by " + c.by.id + " (" + c.of.name + " " + c.of.text(c.local) + ")"
	}
	return v
}
