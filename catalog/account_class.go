package catalog

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// stretch is a range of a question's answers, both ends included.
type stretch struct{ from, to uint32 }

// class is what chunks have in common: the answers they count for, and whether
// nothing but one answer's images names them.
type class struct {
	in    []stretch // ascending, with gaps between
	alone bool
}

// classTable gives equal classes one number.
type classTable struct {
	all   []class
	short map[shortClass]uint32 // those of one stretch
	long  map[string]uint32
	key   []byte
}

type shortClass struct {
	in    stretch
	alone bool
}

func newClassTable() *classTable {
	return &classTable{short: map[shortClass]uint32{}, long: map[string]uint32{}}
}

// id returns the number of a class; in is copied.
func (t *classTable) id(in []stretch, alone bool) uint32 {
	if len(in) == 1 {
		k := shortClass{in[0], alone}
		id, ok := t.short[k]
		if !ok {
			id = t.add(in, alone)
			t.short[k] = id
		}
		return id
	}
	t.key = append(t.key[:0], 0)
	if alone {
		t.key[0] = 1
	}
	for _, s := range in {
		t.key = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(t.key, s.from), s.to)
	}
	id, ok := t.long[string(t.key)]
	if !ok {
		id = t.add(in, alone)
		t.long[string(t.key)] = id
	}
	return id
}

func (t *classTable) add(in []stretch, alone bool) uint32 {
	t.all = append(t.all, class{slices.Clone(in), alone})
	return uint32(len(t.all) - 1)
}

// union appends the stretches that any of the classes has to out.
func (t *classTable) union(out []stretch, over []span) []stretch {
	start := len(out)
	for i := range over {
		if i == 0 || over[i].tag != over[i-1].tag {
			out = append(out, t.all[over[i].tag].in...)
		}
	}
	u := out[start:]
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
