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
	key  viewKey
	src  imageSource
	cost int64

	once sync.Once
	file *qcow2.View
	err  error
}

// viewCache keeps the views used last, and the sizes of more.
type viewCache struct {
	max int64

	mu    sync.Mutex
	used  int64
	views map[viewKey]*list.Element // of order
	order list.List                 // of *view, the last used first
	sizes map[viewKey]int64
}

func newViewCache(max int64) *viewCache {
	return &viewCache{max: max, views: map[viewKey]*list.Element{}, sizes: map[viewKey]int64{}}
}

func (c *viewCache) bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used
}

// get returns the place of a view, made when needed; who asks fills it.
func (c *viewCache) get(l *layer, m *volume.Manager) *view {
	k := l.key()
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.views[k]; e != nil {
		c.order.MoveToFront(e)
		return e.Value.(*view)
	}
	v := &view{key: k, cost: viewCost(l.image.Size), src: imageSource{m: m, point: k.point, disk: k.disk}}
	c.views[k] = c.order.PushFront(v)
	c.used += v.cost
	for c.used > c.max && c.order.Len() > 1 {
		c.remove(c.order.Back())
	}
	return v
}

// viewCost is what a view takes in memory at most: a bit per block and counts.
func viewCost(size int64) int64 { return 4096 + size/dedup.BlockSize*5/32 }

func (c *viewCache) remove(e *list.Element) {
	v := c.order.Remove(e).(*view)
	delete(c.views, v.key)
	c.used -= v.cost
}

// forget drops a view that could not be made.
func (c *viewCache) forget(v *view) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.views[v.key]; e != nil && e.Value.(*view) == v {
		c.remove(e)
	}
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

// openView returns a layer's file, with its image open: the caller closes
// view.src when it has read.
func (s *Service) openView(l *layer) (*view, error) {
	v := s.views.get(l, s.o.Volumes)
	if err := v.src.open(); err != nil {
		return nil, err
	}
	if err := s.unchanged(l); err != nil {
		v.src.close()
		return nil, err
	}
	v.once.Do(func() { v.file, v.err = s.makeView(l, v) })
	if v.err != nil {
		s.views.forget(v)
		v.src.close()
		return nil, fmt.Errorf("disk %s of point %s as qcow2: %w", l.image.Disk, l.point.ID, v.err)
	}
	s.views.learn(v.key, v.file.Size())
	return v, nil
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
	return qcow2.NewView(qcow2.ViewOptions{
		Size: l.image.Size, Backing: v.key.backing, Source: &v.src,
		Extents: func(yield func(off, n int64, kind qcow2.Kind) bool) error { return s.extents(l, yield) },
	})
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
	defer v.src.close()
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
