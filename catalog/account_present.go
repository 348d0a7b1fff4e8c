package catalog

import "github.com/strongroom-backup/strongroom/dedup"

// present gathers the slots of all images, disk by disk.
func (q *question) present() error {
	q.pack.stretches = newStretchTable()
	t := &timeline{q: q, limit: q.a.window.places, budget: q.a.window.records}
	for first := 0; first < len(q.images); {
		end := first + 1
		for end < len(q.images) && q.images[end].disk == q.images[first].disk {
			end++
		}
		if err := t.disk(first, end, q.presentRun); err != nil {
			return err
		}
		first = end
	}
	return nil
}

// presentRun takes slots that are there from one image to another.
func (q *question) presentRun(addr dedup.Addr, count, first, last uint32) {
	q.slots.add(uint64(addr), uint64(count), q.pack.stretches.id(stretch{first, last}), 0)
}
