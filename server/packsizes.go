package server

import (
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// packSizesFor is how stale the figure may be: asking costs a system call per
// pack, and it is asked for at every scrape.
const packSizesFor = 30 * time.Second

// packSizes knows how many bytes all packs take together.
type packSizes struct {
	fs  vfs.FS
	dir string
	now func() time.Time

	mu    sync.Mutex
	at    time.Time
	bytes int64
}

// total is the sum, at most packSizesFor old. Packs that come or go meanwhile
// may be counted or not.
func (p *packSizes) total() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if age := p.now().Sub(p.at); p.at.IsZero() || age < 0 || age >= packSizesFor {
		p.bytes, p.at = p.measure(), p.now()
	}
	return p.bytes
}

func (p *packSizes) measure() (sum int64) {
	groups, _ := p.fs.List(p.dir) // a directory that cannot be read counts as empty
	for _, g := range groups {
		names, _ := p.fs.List(p.fs.PathJoin(p.dir, g))
		for _, name := range names {
			if !strings.HasSuffix(name, ".pack") {
				continue
			}
			if st, err := p.fs.Stat(p.fs.PathJoin(p.dir, g, name)); err == nil {
				sum += st.Size()
			}
		}
	}
	return sum
}
