package integration

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/integration/rig"
	"github.com/strongroom-backup/strongroom/internal/nbdio"
	"github.com/strongroom-backup/strongroom/server/api"
)

// collectFor is how long TestCollectWhileBackingUp goes on, times
// STRONGROOM_SOAK.
const collectFor = 12 * time.Second

// stallBound is the longest a request may take while a garbage collection runs
// beside QEMU's jobs. docs/OPERATIONS.md promises it.
const stallBound = 2 * time.Second

// keptByLane is how many points a lane keeps; what is older is deleted for good.
const keptByLane = 3

// TestCollectWhileBackingUp collects garbage without a pause, with every pack
// that has any rewritten, while QEMU backs three guests up, incrementally, that
// write meanwhile, while old points are deleted and others restored. At the end
// every point that was kept is what its disk was, and the space of the others
// is back.
func TestCollectWhileBackingUp(t *testing.T) {
	seed := environment(t, "STRONGROOM_SEED", time.Now().UnixNano()&0xffffffff)
	soak := time.Duration(environment(t, "STRONGROOM_SOAK", 1))
	t.Logf("seed: STRONGROOM_SEED=%d", seed)
	s := newSceneFor(t, sceneTimeout+2*soak*collectFor, "gc.dead-ratio=0.02", "gc.grace=0s")
	k := &killer{s: s, rng: rand.New(rand.NewPCG(uint64(seed), 2)), gentle: true}
	lanes := k.lanes(3)
	k.round(lanes) // the fulls
	b := newBystanders(s, lanes)
	b.probe(time.Now().Add(2 * time.Second))
	quiet := b.slowest
	stop := b.run()
	rounds := 0
	for end := time.Now().Add(soak * collectFor); time.Now().Before(end); rounds++ {
		k.round(lanes)
		for _, l := range lanes {
			l.trim(b)
		}
	}
	stop()
	_, err := s.srv.Abort(s.ctx, b.session)
	s.must(err)
	for _, l := range lanes {
		l.verify()
	}
	t.Logf("%d rounds, %d collections, %d restores; the slowest request of a bystander took %v, %v without collections",
		rounds, b.collections, b.restores, b.slowest, quiet)
	if b.collections < 3 || b.restores < 3 {
		t.Error("too little happened at the same time")
	}
	if b.slowest > stallBound {
		t.Errorf("a request took %v beside collections, the bound is %v", b.slowest, stallBound)
	}
	spaceIsBack(s, lanes)
}

// trim deletes a lane's oldest points.
func (l *lane) trim(b *bystanders) {
	gone := l.made[:max(len(l.made)-keptByLane, 0)]
	l.made = l.made[len(gone):]
	b.know(l)
	for _, old := range gone {
		l.finished--
		_, err := l.s.srv.Run(l.s.ctx, "point", "rm", "--now", old.point)
		l.s.must(err, os.Remove(old.want))
	}
}

// spaceIsBack deletes all but one point and looks at the packs.
func spaceIsBack(s *scene, lanes []*lane) {
	s.Helper()
	before := packBytes(s)
	for _, l := range lanes {
		for _, m := range l.made[:len(l.made)-1] {
			_, err := s.srv.Run(s.ctx, "point", "rm", "--now", m.point)
			s.must(err)
		}
		l.made = l.made[len(l.made)-1:]
	}
	for collected := false; !collected; {
		var err error
		collected, err = gc(s)
		s.must(err)
	}
	after := packBytes(s)
	var u api.UsageReport
	s.must(s.srv.JSON(s.ctx, &u, "usage"))
	s.Logf("packs: %d bytes before the last deletes, %d after; points hold %d", before, after, u.Usage.StoredBytes)
	if after > u.Usage.StoredBytes*3/2+(8<<20) {
		s.Errorf("packs take %d bytes, the points left %d", after, u.Usage.StoredBytes)
	}
	for _, l := range lanes {
		m := l.made[0]
		s.same(l.vm, l.node, m.point, m.want)
	}
}

func packBytes(s *scene) int64 {
	st, err := s.srv.Stats(s.ctx)
	s.must(err)
	return st.StoredBytes
}

// bystanders are a client that measures how long it waits, one that restores,
// and one that collects garbage.
type bystanders struct {
	s     *scene
	lanes []*lane

	session string        // an open backup
	disk    *nbdio.Client // its disk
	image   *nbdio.Client // of a point
	rng     *rand.Rand

	slowest time.Duration

	mu          sync.Mutex       // held while a point is compared, and while lanes' points change
	points      map[*lane][]made // that may be restored
	pick        *rand.Rand       // of restore's
	collections int
	restores    int
}

func newBystanders(s *scene, lanes []*lane) *bystanders {
	s.Helper()
	b := &bystanders{s: s, lanes: lanes,
		rng: rand.New(rand.NewPCG(3, 3)), pick: rand.New(rand.NewPCG(4, 4)), points: map[*lane][]made{}}
	for _, l := range lanes {
		b.know(l)
	}
	open, err := s.srv.StartBackup(s.ctx, "bystander", "--disk", "vda=64MiB", "--mode", "full")
	s.must(err)
	b.session = open.Session
	b.disk, err = nbdio.Dial(s.ctx, "unix", s.srv.NBDSocket(), open.Disks[0].Export)
	s.must(err)
	s.Cleanup(b.disk.Drop)
	b.image, err = nbdio.Dial(s.ctx, "unix", s.srv.NBDSocket(), lanes[0].vm+"/"+lanes[0].node+"@"+lanes[0].made[0].point)
	s.must(err)
	s.Cleanup(b.image.Drop)
	return b
}

// run sets everybody to work and returns what ends it.
func (b *bystanders) run() (stop func()) {
	b.slowest = 0
	done := make(chan struct{})
	var wg sync.WaitGroup
	failed := make(chan error, 3)
	loop := func(work func() error) {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := work(); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	loop(b.once)
	loop(b.collect)
	loop(b.restore)
	return func() {
		b.s.Helper()
		close(done)
		wg.Wait()
		close(failed)
		for err := range failed {
			b.s.Error(err)
		}
	}
}

// probe measures until a time.
func (b *bystanders) probe(until time.Time) {
	b.s.Helper()
	for time.Now().Before(until) {
		b.s.must(b.once())
	}
}

// once writes a block, reads it again, and reads one of a point.
func (b *bystanders) once() error {
	p := make([]byte, 64<<10)
	for i := range p {
		p[i] = byte(b.rng.Uint32())
	}
	off := int64(len(p)) * b.rng.Int64N(64<<20/int64(len(p)))
	err := errors.Join(
		b.timed(func() error { _, err := b.disk.WriteAt(p, off); return err }),
		b.timed(func() error { return same(b.disk, p, off) }),
		b.timed(func() error { _, err := b.image.ReadAt(p, off%(b.image.Size()-int64(len(p)))); return err }))
	time.Sleep(2 * time.Millisecond)
	return err
}

func same(d *nbdio.Client, want []byte, off int64) error {
	got := make([]byte, len(want))
	if _, err := d.ReadAt(got, off); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("an open backup's disk lost what was written at %d", off)
	}
	return nil
}

func (b *bystanders) timed(work func() error) error {
	start := time.Now()
	err := work()
	b.slowest = max(b.slowest, time.Since(start))
	return err
}

func (b *bystanders) collect() error {
	done, err := gc(b.s)
	if done {
		b.collections++
	}
	return err
}

// gc runs a collection, unless the server is about one by itself.
func gc(s *scene) (done bool, err error) {
	_, err = s.srv.Run(s.ctx, "gc", "--wait")
	if e := new(rig.CLIError); errors.As(err, &e) && strings.Contains(e.Stderr, "running") {
		time.Sleep(10 * time.Millisecond)
		return false, nil
	}
	return err == nil, err
}

// restore compares a point that is not about to be deleted.
func (b *bystanders) restore() error {
	b.mu.Lock()
	defer b.mu.Unlock() // forget waits until the comparison is over
	l := b.lanes[b.restores%len(b.lanes)]
	m := b.points[l][b.pick.IntN(len(b.points[l]))]
	b.restores++
	_, err := b.s.try("qemu-img", "compare", "-f", "raw", "-F", "raw", b.s.srv.UnixURI(l.vm+"/"+l.node+"@"+m.point), m.want)
	return err
}

// know tells what may be restored from now on. When it returns, nobody restores
// anything else.
func (b *bystanders) know(l *lane) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.points[l] = slices.Clone(l.made)
}
