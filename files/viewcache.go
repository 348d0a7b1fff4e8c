package files

import (
	"container/list"
	"fmt"
	"sync"

	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/qcow2"
	"github.com/strongroom-backup/strongroom/volume"
)

// viewKey names a virtual qcow2 file by what it shows, so that one that shows
// something else after a merge or a removal has another name.
type viewKey struct {
	point, disk string
	root        dedup.Hash
	backing     string
	under       dedup.Hash
}

func (l *layer) key() viewKey {
	k := viewKey{point: l.point.ID, disk: l.image.Disk, root: l.image.Root}
	if l.under != nil {
		k.backing, k.under = l.under.name(), l.under.image.Root
	}
	return k
}

// view is a virtual file, shared by all that have it open.
type view struct {
	key   viewKey
	src   imageSource
	cost  int64 // bytes of memory; by viewCache.mu, as the next
	users int

	once sync.Once
	file *qcow2.View
	err  error
}

// viewCache has the views that are open, those used last, and the sizes of more.
type viewCache struct {
	idle, most int64 // bytes up to which views stay that nobody has open, and those that are open

	mu    sync.Mutex
	used  int64
	views map[viewKey]*list.Element // of order
	order list.List                 // of *view, the last used first
	sizes map[viewKey]int64
}

func newViewCache(idle, most int64) *viewCache {
	return &viewCache{idle: idle, most: most, views: map[viewKey]*list.Element{}, sizes: map[viewKey]int64{}}
}

func (c *viewCache) bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used
}

// take returns a view, made when needed; who takes it fills it, and gives it back.
func (c *viewCache) take(l *layer, m *volume.Manager) *view {
	k := l.key()
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.views[k]
	if e == nil {
		e = c.order.PushFront(&view{key: k, cost: viewBytes, src: imageSource{m: m, point: k.point, disk: k.disk}})
		c.views[k] = e
		c.used += viewBytes
	}
	c.order.MoveToFront(e)
	v := e.Value.(*view)
	v.users++
	return v
}

// grow says what a view takes, and reports whether that is not too much.
func (c *viewCache) grow(v *view, cost int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used += cost - v.cost
	v.cost = cost
	c.trim()
	return c.used <= c.most
}

// give is the end of one use of a view; one that could not be made is forgotten.
func (c *viewCache) give(v *view, failed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v.users--
	if failed && c.views[v.key] != nil && c.views[v.key].Value.(*view) == v {
		c.remove(c.views[v.key])
	}
	c.trim()
}

// trim drops what was longest unused.
func (c *viewCache) trim() {
	for e := c.order.Back(); e != nil && c.used > c.idle; {
		next := e.Prev()
		if e.Value.(*view).users == 0 {
			c.remove(e)
		}
		e = next
	}
}

func (c *viewCache) remove(e *list.Element) {
	v := c.order.Remove(e).(*view)
	delete(c.views, v.key)
	c.used -= v.cost
}

// size returns the size of a virtual file, if it was known once.
func (c *viewCache) size(k viewKey) (int64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.sizes[k]
	return n, ok
}

func (c *viewCache) learn(k viewKey, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.sizes) >= maxSizes {
		clear(c.sizes)
	}
	c.sizes[k] = size
}

// openView returns a layer's file, with its image open. The caller gives it back
// to closeView when it has read.
func (s *Service) openView(l *layer) (*view, error) {
	v := s.views.take(l, s.o.Volumes)
	if err := v.src.open(); err != nil {
		s.views.give(v, false)
		return nil, err
	}
	err := s.unchanged(l)
	if err == nil {
		v.once.Do(func() { v.file, v.err = s.makeView(l, v) })
		if v.err != nil {
			err = fmt.Errorf("disk %s of point %s as qcow2: %w", l.image.Disk, l.point.ID, v.err)
		}
	}
	if err != nil {
		v.src.close()
		s.views.give(v, v.err != nil)
		return nil, err
	}
	s.views.learn(v.key, v.file.Size())
	return v, nil
}

func (s *Service) closeView(v *view) {
	v.src.close()
	s.views.give(v, false)
}

// unchanged tells whether a layer's image, which is open, is still the one that
// was looked up: until it was opened, others could be merged into it.
func (s *Service) unchanged(l *layer) error {
	p, err := s.o.Catalog.Point(l.point.ID)
	if err != nil {
		return err
	}
	if im, ok := imageOf(&p, l.image.Disk); !ok || im.Root != l.image.Root {
		return fmt.Errorf("disk %s of point %s was merged with others just now; try again", l.image.Disk, p.ID)
	}
	return nil
}

// makeView lays a file out. The layer's image is open.
func (s *Service) makeView(l *layer, v *view) (*qcow2.View, error) {
	if l.under != nil { // its chunk list stays until it was read
		x, err := s.o.Volumes.OpenImage(l.under.point.ID, l.image.Disk)
		if err != nil {
			return nil, err
		}
		defer x.Close()
		if err := s.unchanged(l.under); err != nil {
			return nil, err
		}
	}
	cost := int64(viewBytes)
	last := int64(-1)
	file, err := qcow2.NewView(qcow2.ViewOptions{
		Size: l.image.Size, Backing: v.key.backing, Source: &v.src,
		Extents: func(yield func(off, n int64, kind qcow2.Kind) bool) error {
			return s.extents(l, func(off, n int64, kind qcow2.Kind) bool {
				if chunk := off / dedup.ChunkSize; chunk != last { // extents lie within chunks
					cost += viewChunkBytes
					last = chunk
				}
				return yield(off, n, kind)
			})
		},
	})
	if err == nil && !s.views.grow(v, cost) {
		return nil, fmt.Errorf("%w: the qcow2 files that are open take %d MiB of memory; close some, or read the raw ones", volume.ErrLimit, s.views.most>>20)
	}
	return file, err
}

// viewSize is the length of a layer's file.
func (s *Service) viewSize(l *layer) (int64, error) {
	if n, ok := s.views.size(l.key()); ok {
		return n, nil
	}
	v, err := s.openView(l)
	if err != nil {
		return 0, err
	}
	defer s.closeView(v)
	return v.file.Size(), nil
}

// imageSource is an image that is open while somebody reads it. A view that is
// only remembered holds no point back.
type imageSource struct {
	m           *volume.Manager
	point, disk string

	mu    sync.RWMutex
	users int
	image *volume.Image
}

// open opens the image for one more user.
func (x *imageSource) open() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.users == 0 {
		image, err := x.m.OpenImage(x.point, x.disk)
		if err != nil {
			return err
		}
		x.image = image
	}
	x.users++
	return nil
}

func (x *imageSource) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.users--; x.users == 0 {
		_ = x.image.Close()
		x.image = nil
	}
}

// ReadAt reads the image; the caller is one of its users.
func (x *imageSource) ReadAt(p []byte, off int64) (int, error) {
	x.mu.RLock()
	image := x.image
	x.mu.RUnlock()
	return image.ReadAt(p, off)
}
