package catalog

import (
	"cmp"
	"slices"
)

// stretch is a range of a question's answers, both ends included.
type stretch struct{ from, to uint32 }

// stretchTable gives equal stretches one number, by which spans are tagged.
type stretchTable struct {
	all  []stretch
	ids  map[stretch]uint32
	last uint32 // looked up last
}

func newStretchTable() *stretchTable { return &stretchTable{ids: map[stretch]uint32{}} }

func (t *stretchTable) id(s stretch) uint32 {
	if len(t.all) > 0 && t.all[t.last] == s {
		return t.last
	}
	id, ok := t.ids[s]
	if !ok {
		id = uint32(len(t.all))
		t.ids[s], t.all = id, append(t.all, s)
	}
	t.last = id
	return id
}

// union appends the answers that any of the spans counts for to out.
func (t *stretchTable) union(out []stretch, over []span) []stretch {
	start := len(out)
	for i := range over {
		out = append(out, t.all[over[i].tag])
	}
	u := out[start:]
	if len(u) == 1 {
		return out
	}
	slices.SortFunc(u, func(a, b stretch) int { return cmp.Compare(a.from, b.from) })
	k := 0
	for _, s := range u[1:] {
		if s.from <= u[k].to+1 {
			u[k].to = max(u[k].to, s.to)
			continue
		}
		k++
		u[k] = s
	}
	return out[:start+k+1]
}
