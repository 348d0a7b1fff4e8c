package crashfs

import "slices"

const (
	// SectorSize is what a disk writes as one: the unit of tearing.
	SectorSize = 512
	// pageSize is the unit of copy-on-write and of space accounting: small,
	// because logs are synced after every few hundred bytes.
	pageSize    = 4096
	pageSectors = pageSize / SectorSize
)

type page [pageSize]byte

// content is a file's bytes. Once shared it never changes: whoever wants to
// write takes a clone, which owns none of its pages until it copies them. A
// nil page is all zeros, and so is everything in a page beyond size.
type content struct {
	size   int64
	pages  []*page
	owned  []bool
	shared bool
}

// share marks c as immutable. Contents already shared are only read here, for
// clones of one FS may do this at the same time.
func (c *content) share() *content {
	if !c.shared {
		c.shared = true
	}
	return c
}

// mutable is c, or a clone when c is shared.
func (c *content) mutable() *content {
	if !c.shared {
		return c
	}
	return &content{size: c.size, pages: slices.Clone(c.pages), owned: make([]bool, len(c.pages))}
}

func (c *content) page(i int) *page {
	if i < len(c.pages) {
		return c.pages[i]
	}
	return nil
}

// setPage puts a page that others may hold too.
func (c *content) setPage(i int, p *page) {
	c.grow(i + 1)
	c.pages[i], c.owned[i] = p, false
}

func (c *content) grow(pages int) {
	if n := pages - len(c.pages); n > 0 {
		c.pages = append(c.pages, make([]*page, n)...)
		c.owned = append(c.owned, make([]bool, n)...)
	}
}

// writable is page i, allocated or copied when it has to be.
func (c *content) writable(i int) *page {
	c.grow(i + 1)
	if !c.owned[i] {
		p := new(page)
		if old := c.pages[i]; old != nil {
			*p = *old
		}
		c.pages[i], c.owned[i] = p, true
	}
	return c.pages[i]
}

func (c *content) writeAt(p []byte, off int64) {
	c.size = max(c.size, off+int64(len(p)))
	for len(p) > 0 {
		n := copy(c.writable(int(off / pageSize))[off%pageSize:], p)
		p, off = p[n:], off+int64(n)
	}
}

// readAt copies up to the end of the file and returns how much that was.
func (c *content) readAt(p []byte, off int64) int {
	if off < 0 || off >= c.size {
		return 0
	}
	p = p[:min(int64(len(p)), c.size-off)]
	for rest := p; len(rest) > 0; {
		in := off % pageSize
		part := rest[:min(int64(len(rest)), pageSize-in)]
		if pg := c.page(int(off / pageSize)); pg != nil {
			copy(part, pg[in:])
		} else {
			clear(part)
		}
		rest, off = rest[len(part):], off+int64(len(part))
	}
	return len(p)
}

// resize sets the size and clears what lies beyond it.
func (c *content) resize(size int64) {
	keep := int((size + pageSize - 1) / pageSize)
	if keep < len(c.pages) {
		c.pages, c.owned = c.pages[:keep:keep], c.owned[:keep:keep]
	}
	if in := size % pageSize; in != 0 && c.page(keep-1) != nil && size < c.size {
		clear(c.writable(keep - 1)[in:])
	}
	c.size = size
}

// allocated is the space the pages take, in bytes.
func (c *content) allocated() (n int64) {
	for _, p := range c.pages {
		if p != nil {
			n += pageSize
		}
	}
	return n
}
