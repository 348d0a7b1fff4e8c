package life

import (
	"maps"
	"slices"
	"time"

	"github.com/strongroom-backup/strongroom/volume"
)

// image is a disk at a point.
type image struct {
	content
	parent string // point
}

// point is a recovery point as the client knows it. It is never changed, only
// replaced.
type point struct {
	id, vm  string
	blob    string
	images  map[string]image
	files   map[string]file
	manual  bool
	sealed  bool // was a clone: nothing inherits from it unasked
	hold    string
	locked  time.Time
	trashed bool
	purge   time.Time
}

// session is an open backup.
type session struct {
	id    string
	blob  string
	disks []*disk
	clean bool // everything acknowledged was flushed since

	keeps bool                // it is for files
	base  string              // the point that disks made of them may inherit from; "" the newest
	files map[string]*newFile // by name; several names may lead to one
}

type disk struct {
	name, token string
	parent      string
	hint        string // the point its blocks are compared with
	want        content
}

// openImage is an image that is being read, whatever becomes of its point.
type openImage struct {
	point string
	disk  string
	want  content
	im    *volume.Image
}

// points are those of one VM, in order of their commits.
type points []*point

func (ps points) find(id string) *point {
	if i := slices.IndexFunc(ps, func(p *point) bool { return p.id == id }); i >= 0 {
		return ps[i]
	}
	return nil
}

// with is a copy in which a point is replaced by what change makes of it.
func (ps points) with(id string, change func(*point)) points {
	out := slices.Clone(ps)
	for i, p := range out {
		if p.id == id {
			n := *p
			n.images, n.files = maps.Clone(p.images), maps.Clone(p.files)
			change(&n)
			out[i] = &n
		}
	}
	return out
}

// without is a copy without a point; images that inherit from its have its
// parents.
func (ps points) without(id string) points {
	gone := ps.find(id)
	if gone == nil {
		return ps
	}
	for name, im := range gone.images {
		ps = ps.reparented(name, map[string]bool{id: true}, im.parent)
	}
	return slices.DeleteFunc(slices.Clone(ps), func(p *point) bool { return p.id == id })
}

// reparented gives the images of a disk that inherit from those that go another
// parent.
func (ps points) reparented(disk string, gone map[string]bool, parent string) points {
	for _, p := range ps {
		if im, ok := p.images[disk]; ok && gone[im.parent] {
			ps = ps.with(p.id, func(p *point) {
				im.parent = parent
				p.images[disk] = im
			})
		}
	}
	return ps
}

// merged is a copy after a merge of a line of images, oldest first: with commit
// into the oldest, else into the newest.
func (ps points) merged(disk string, line []string, commit bool) points {
	base, top := line[0], line[len(line)-1]
	into, gone, heirs := top, line[:len(line)-1], ps.find(base).images[disk].parent
	if commit {
		into, gone, heirs = base, line[1:], base
	}
	after := image{ps.find(top).images[disk].content, ps.find(base).images[disk].parent}
	set := map[string]bool{}
	for _, id := range gone {
		set[id] = true
	}
	ps = ps.reparented(disk, set, heirs).with(into, func(p *point) {
		p.images[disk] = after
		if commit {
			p.dropFiles(disk)
		}
	})
	for _, id := range gone {
		ps = ps.with(id, func(p *point) {
			delete(p.images, disk)
			p.dropFiles(disk)
		})
		if p := ps.find(id); len(p.images)+len(p.files) == 0 {
			ps = ps.without(id)
		}
	}
	return ps
}

// live are the points that are not in the trash.
func (ps points) live() (out []*point) {
	for _, p := range ps {
		if !p.trashed {
			out = append(out, p)
		}
	}
	return out
}

// latest is the newest live point that has the disk.
func (ps points) latest(disk string) *point {
	for _, p := range slices.Backward(ps) {
		if _, ok := p.images[disk]; ok && !p.trashed {
			return p
		}
	}
	return nil
}

// protected reports whether the point must stay.
func (p *point) protected(now time.Time) bool { return p.hold != "" || now.Before(p.locked) }
