package integration

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/internal/qsd"
	"github.com/strongroom-backup/strongroom/internal/testdisk"
	"github.com/strongroom-backup/strongroom/server/api"
)

// How often TestKillDuringBackups kills the server, unless STRONGROOM_KILLS
// says another number (make soak does).
const killsDefault = 20

// lane is one VM that is backed up again and again while the server dies.
type lane struct {
	*guest
	vm        string
	bitmap    string // "" when the next backup must be a full
	rounds    int
	finished  int // jobs that succeeded and were committed
	b         api.Backup
	want      string // what the point of b must hold
	failed    error  // why the job of b failed
	scribbled error  // why the guest could not write
	made      []made // the newest points
}

// made is a point and what it was made from.
type made struct{ point, want string }

// keptPoints is how many of a lane's points are compared once more at the end.
const keptPoints = 4

// killer kills the server at random moments and starts it again at once.
type killer struct {
	s       *scene
	rng     *rand.Rand
	left    int  // kills of jobs still to do
	gentle  bool // kills nobody, commits included
	jobs    int  // kills while jobs ran
	commits int  // kills during commits
}

// TestKillDuringBackups ends the server with SIGKILL at random moments of
// several QEMU backups at once, fulls and incrementals, while guests write, and
// of their commits. QEMU has a reconnect-delay, so a job may finish: then its
// point must be exactly what the disk was. A job may also fail. What must never
// happen is a job that succeeds with another content.
func TestKillDuringBackups(t *testing.T) {
	seed := environment(t, "STRONGROOM_SEED", time.Now().UnixNano()&0xffffffff)
	left := environment(t, "STRONGROOM_KILLS", killsDefault)
	t.Logf("seed: STRONGROOM_SEED=%d STRONGROOM_KILLS=%d", seed, left)
	s := newSceneFor(t, sceneTimeout+time.Duration(left)*10*time.Second)
	k := &killer{s: s, rng: rand.New(rand.NewPCG(uint64(seed), 0)), left: int(left)}
	lanes := k.lanes(4)
	for k.left > 0 {
		k.round(lanes)
	}
	finished, rounds := 0, 0
	for _, l := range lanes {
		l.verify()
		finished += l.finished
		rounds += l.rounds
	}
	t.Logf("%d kills of running jobs and %d of commits; %d jobs: %d finished and are identical, %d failed",
		k.jobs, k.commits, rounds, finished, rounds-finished)
	if finished < rounds/2 {
		t.Error("most jobs failed: reconnecting does not work")
	}
}

func environment(t *testing.T, name string, otherwise int64) int64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func (k *killer) lanes(n int) (lanes []*lane) {
	const mib = 1 << 20
	for i := range int64(n) {
		vm := fmt.Sprintf("vm%d", i)
		model := k.s.scattered(vm+".model", 32*mib+512*i, extent{i * mib, 10 * mib}, extent{18*mib + 4096*i, 7 * mib})
		disk := &testdisk.Disk{Path: model, Size: 32*mib + 512*i}
		lanes = append(lanes, &lane{guest: newGuestOf(k.s, "vd"+strconv.Itoa(int(i)), "raw", disk), vm: vm})
	}
	return lanes
}

// round backs every lane up once, at the same time, killing as it goes.
func (k *killer) round(lanes []*lane) {
	for _, l := range lanes {
		k.begin(l)
	}
	jobsDone := make(chan struct{})
	var wg sync.WaitGroup
	for _, l := range lanes {
		rng := rand.New(rand.NewPCG(k.rng.Uint64(), 1))
		wg.Go(func() { l.scribbled = l.scribble(rng, 30) })
		wg.Go(func() { l.failed = k.s.qsd.Wait(k.s.ctx, job(l.node)) })
	}
	go func() { wg.Wait(); close(jobsDone) }()
	k.killUntil(jobsDone, 1200*time.Millisecond)
	for _, l := range lanes {
		k.end(l)
	}
}

// begin opens a lane's backup and starts its job, slowly enough to be hit.
func (k *killer) begin(l *lane) {
	l.rounds++
	l.want = l.snapshot(fmt.Sprint(l.rounds))
	mode, sync := "full", "full"
	if l.bitmap != "" {
		mode, sync = "incremental", "incremental"
	}
	l.b = k.s.start(l.vm, []*guest{l.guest}, "--mode", mode)
	k.s.connect(l.b)
	backup := qsd.Backup{Job: job(l.node), Device: l.node, Target: target(l.node), Sync: sync, Bitmap: l.bitmap,
		Speed: (4 + k.rng.Int64N(8)) << 20, Perf: &qsd.Perf{MaxChunk: qsd.Granularity << k.rng.IntN(5)}}
	actions := []qsd.Action{backup.Action()}
	if l.bitmap == "" {
		actions = append([]qsd.Action{qsd.AddBitmap(l.node, "b", false)}, actions...)
		l.bitmap = "b"
	}
	k.s.must(k.s.qsd.Transaction(k.s.ctx, actions...))
}

// scribble is the guest that goes on writing.
func (l *lane) scribble(rng *rand.Rand, writes int) error {
	for range writes {
		data := make([]byte, 512*(1+rng.IntN(256)))
		if rng.IntN(4) > 0 {
			for i := range data {
				data[i] = byte(rng.Uint32())
			}
		}
		if err := l.tryWrite(512*rng.Int64N((l.size()-int64(len(data)))/512), data); err != nil {
			return err
		}
		time.Sleep(time.Duration(rng.IntN(50)) * time.Millisecond)
	}
	return nil
}

// end commits what finished, under fire too, and compares it.
func (k *killer) end(l *lane) {
	s := k.s
	s.must(l.scribbled)
	s.disconnect(l.b)
	var job *qsd.JobError
	if l.failed != nil && !errors.As(l.failed, &job) {
		s.Fatal(l.failed)
	}
	if l.failed != nil {
		s.Logf("%s round %d: %v", l.vm, l.rounds, l.failed)
		_, err := s.srv.Abort(s.ctx, l.b.Session)
		s.must(err, s.qsd.Transaction(s.ctx, qsd.RemoveBitmap(l.node, l.bitmap)))
		l.bitmap = ""
		return
	}
	r := k.commit(l)
	s.same(l.vm, l.node, r.Point, l.want)
	l.finished++
	l.made = append(l.made, made{r.Point, l.want})
	if len(l.made) > keptPoints {
		s.must(os.Remove(l.made[0].want))
		l.made = l.made[1:]
	}
}

// commit publishes a lane's backup, every fourth time while the server is
// being killed.
func (k *killer) commit(l *lane) api.Receipt {
	s := k.s
	if !k.gentle && k.rng.IntN(4) == 0 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			// Its answer is lost, perhaps; the commit below asks again.
			_, _ = s.srv.Commit(s.ctx, l.b.Session)
		}()
		time.Sleep(time.Duration(k.rng.Int64N(int64(40 * time.Millisecond))))
		k.kill()
		k.commits++
		<-done
	}
	return s.commit(l.b)
}

// killUntil kills at random moments until done, at most apart from each other.
func (k *killer) killUntil(done <-chan struct{}, apart time.Duration) {
	for k.left > 0 {
		select {
		case <-done:
			return
		case <-time.After(time.Duration(k.rng.Int64N(int64(apart)))):
			k.kill()
			k.jobs++
			k.left--
		}
	}
	<-done
}

func (k *killer) kill() {
	k.s.srv.Kill()
	k.s.must(k.s.srv.Start(k.s.ctx))
}

// verify compares a lane's points once more: no later kill may have changed
// them, and no kill may have made or lost one.
func (l *lane) verify() {
	if n := l.s.points(l.vm); n != l.finished {
		l.s.Errorf("%s has %d points, %d were committed", l.vm, n, l.finished)
	}
	for _, m := range l.made {
		l.s.same(l.vm, l.node, m.point, m.want)
	}
}
