package sftptest

const pageSize = 16 << 10

// content is the bytes of a file; pages nobody wrote are zeros.
type content struct {
	size  int64
	pages map[int64]*[pageSize]byte
}

// each calls f for the parts of p, which lies at off, that are in one page.
func each(p []byte, off int64, f func(page, at int64, part []byte)) {
	for len(p) > 0 {
		at := off % pageSize
		n := min(int64(len(p)), pageSize-at)
		f(off/pageSize, at, p[:n])
		p, off = p[n:], off+n
	}
}

func (c *content) readAt(p []byte, off int64) int {
	if off >= c.size {
		return 0
	}
	p = p[:min(int64(len(p)), c.size-off)]
	each(p, off, func(page, at int64, part []byte) {
		if b := c.pages[page]; b != nil {
			copy(part, b[at:])
			return
		}
		clear(part)
	})
	return len(p)
}

// writeAt returns how many pages it made.
func (c *content) writeAt(p []byte, off int64) (made int64) {
	if c.pages == nil {
		c.pages = map[int64]*[pageSize]byte{}
	}
	each(p, off, func(page, at int64, part []byte) {
		b := c.pages[page]
		if b == nil {
			b = new([pageSize]byte)
			c.pages[page] = b
			made++
		}
		copy(b[at:], part)
	})
	c.size = max(c.size, off+int64(len(p)))
	return made
}

func (c *content) truncate(size int64) {
	if size < c.size {
		for page, b := range c.pages {
			switch start := page * pageSize; {
			case start >= size:
				delete(c.pages, page)
			case start+pageSize > size:
				clear(b[size-start:])
			}
		}
	}
	c.size = size
}
