package server

import (
	"container/heap"
	"slices"
	"time"

	"github.com/strongroom-backup/strongroom/nbd"
)

// newestFirst keeps the newest listedExportsMax exports of any number offered.
type newestFirst struct{ h exportHeap }

type datedExport struct {
	time time.Time
	info nbd.Info
}

// compare orders exports newest first, and those of one point by name.
func (d datedExport) compare(e datedExport) int {
	if c := e.time.Compare(d.time); c != 0 {
		return c
	}
	if d.info.Name < e.info.Name {
		return -1
	}
	return 1
}

// exportHeap has the export that must go next on top.
type exportHeap []datedExport

func (h exportHeap) Len() int           { return len(h) }
func (h exportHeap) Less(i, j int) bool { return h[i].compare(h[j]) > 0 }
func (h exportHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *exportHeap) Push(v any)        { *h = append(*h, v.(datedExport)) }
func (h *exportHeap) Pop() any {
	last := len(*h) - 1
	v := (*h)[last]
	*h = (*h)[:last]
	return v
}

func (n *newestFirst) offer(t time.Time, info nbd.Info) {
	d := datedExport{t, info}
	switch {
	case len(n.h) < listedExportsMax:
		heap.Push(&n.h, d)
	case d.compare(n.h[0]) < 0:
		n.h[0] = d
		heap.Fix(&n.h, 0)
	}
}

func (n *newestFirst) list() (out []nbd.Info) {
	slices.SortFunc(n.h, datedExport.compare)
	for _, d := range n.h {
		out = append(out, d.info)
	}
	return out
}
