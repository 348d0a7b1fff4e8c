package nbd_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/nbd"
	"github.com/strongroom-backup/strongroom/nbd/nbdtest"
)

var readFull = io.ReadFull

var errTest = errors.New("the session was committed")

// later runs f and tells when it has returned.
func later(f func()) <-chan struct{} {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	return done
}

func TestCloseExport(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gate("write")
	busy, idle, other := w.simple("e"), w.modern("e"), w.simple("ro")
	cookie := busy.request(cmdWrite, fFUA, 0, 3, []byte("abc"))
	eventually(t, "the write has begun", func() bool { return w.disk.Busy.Load() == 1 })
	w.exports.Remove("e")
	done := later(func() { w.srv.CloseExport("e", errTest) })
	idle.gone()
	select {
	case <-done:
		t.Fatal("CloseExport returned while a request was under way")
	case <-time.After(30 * time.Millisecond):
	}
	close(g.open)
	<-done
	if w.disk.Busy.Load() != 0 || w.disk.Opened.Load() != w.disk.Closed.Load()+1 {
		t.Errorf("busy %d, opened %d, closed %d", w.disk.Busy.Load(), w.disk.Opened.Load(), w.disk.Closed.Load())
	}
	if o := busy.reply(cmdWrite, cookie, 0, 3); o.errno != 0 {
		t.Errorf("errno %d", o.errno)
	}
	busy.gone()
	other.alive()
	w.dial().hello(fixed).expect(optGo, infoData("e"), errUnknown)
	w.srv.CloseExport("e", errTest)
	w.srv.CloseExport("never heard of", errTest)
	eventually(t, "the reason is reported", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.closes) == 2 && errors.Is(w.closes[0].Reason, errTest)
	})
}

// A request that has only half arrived is not waited for.
func TestCloseExportInTheMiddleOfARequest(t *testing.T) {
	w := newWorld(t, nil)
	c := w.simple("e")
	c.put(be32(0x25609513), be16(0), be16(cmdWrite), be64(1), be64(0), be32(mib), make([]byte, 1000))
	c2 := w.simple("ro")
	c2.alive()
	w.srv.CloseExport("e", errTest)
	c.gone()
	c2.alive()
}

// Nor is a client that does not read its replies.
func TestCloseExportWithRepliesUnread(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	c := w.simple("e")
	for range 8 {
		c.request(cmdRead, 0, 0, 4*mib)
	}
	eventually(t, "replies are stuck", func() bool { return w.disk.Reads.Load() == 8 && w.disk.Busy.Load() == 0 })
	w.srv.CloseExport("e", errTest)
	if w.disk.Closed.Load() != 1 {
		t.Error("the device is open")
	}
}

// Slow work is answered, too, whether the server or the client ends it.
func TestSlowWorkIsAnswered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	g := w.gate("flush")
	drained, disc := w.simple("e"), w.simple("e")
	a, b := drained.request(cmdFlush, 0, 0, 0), disc.request(cmdWrite, fFUA, 0, 1, []byte{1})
	disc.request(cmdDisc, 0, 0, 0)
	eventually(t, "a flush has begun", func() bool { return w.disk.Busy.Load() > 0 && w.disk.Writes.Load() == 1 })
	closed := later(func() { w.srv.CloseExport("e", errTest) })
	time.Sleep(3500 * time.Millisecond) // longer than a last reply may take
	close(g.open)
	if o := drained.reply(cmdFlush, a, 0, 0); o.errno != 0 {
		t.Errorf("errno %d", o.errno)
	}
	if o := disc.reply(cmdWrite, b, 0, 1); o.errno != 0 {
		t.Errorf("errno %d", o.errno)
	}
	<-closed
}

func TestShutdownAnswersWhatIsUnderWay(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gate("write", "flush")
	a, b := w.simple("e"), w.modern("e")
	wr := a.request(cmdWrite, 0, 0, 3, []byte("abc"))
	fl := b.request(cmdFlush, 0, 0, 0)
	eventually(t, "both have begun", func() bool { return w.disk.Busy.Load() == 2 })
	haggling := w.dial().hello(fixed)
	haggling.expect(99, nil, errUnsup)
	done := later(w.stop)
	eventually(t, "the server takes no connection", func() bool {
		c, err := net.Dial("unix", w.unix)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	haggling.expect(optGo, infoData("e"), errShutdown)
	haggling.expect(optList, nil, errShutdown)
	haggling.gone()
	close(g.open)
	if o := a.reply(cmdWrite, wr, 0, 3); o.errno != 0 {
		t.Errorf("write: errno %d", o.errno)
	}
	if o := b.reply(cmdFlush, fl, 0, 0); o.errno != 0 {
		t.Errorf("flush: errno %d", o.errno)
	}
	a.gone()
	b.gone()
	<-done
}

func TestShutdownIsBounded(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gate("write")
	c := w.simple("e")
	c.request(cmdWrite, 0, 0, 3, []byte("abc"))
	eventually(t, "the write has begun", func() bool { return w.disk.Busy.Load() == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	if err := w.srv.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown: %v", err)
	}
	c.gone()
	close(g.open)
}

func TestShutdownWithIdleSockets(t *testing.T) {
	w := newWorld(t, nil)
	for range 10 {
		w.dial()
		w.dialTCP().hello(fixed)
		w.simple("ro")
	}
	eventually(t, "all are there", func() bool { return w.srv.Stats().ConnectionsOpen == 30 })
	start := time.Now()
	w.stop()
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
	if err := w.srv.Serve(context.Background(), listen(t)); !errors.Is(err, nbd.ErrServerClosed) {
		t.Errorf("Serve after Shutdown: %v", err)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// The end of Serve's context stops accepting and nothing else.
func TestServeContext(t *testing.T) {
	w := newWorld(t, nil)
	ln := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- w.srv.Serve(ctx, ln) }()
	c := dial(t, "tcp", ln.Addr().String()).modern("e")
	cancel()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if _, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		t.Error("still accepting")
	}
	c.alive()
	w.simple("ro").alive()
}

// flakyListener fails a few times before it accepts.
type flakyListener struct {
	net.Listener
	left atomic.Int64
}

func (l *flakyListener) Accept() (net.Conn, error) {
	if l.left.Add(-1) >= 0 {
		return nil, errors.New("too many open files")
	}
	return l.Listener.Accept()
}

func TestAcceptErrorsAreTriedAgain(t *testing.T) {
	var seen atomic.Int64
	w := newWorld(t, func(o *nbd.Options) { o.Events.AcceptError = func(error) { seen.Add(1) } })
	ln := &flakyListener{Listener: listen(t)}
	ln.left.Store(3)
	served := later(func() { _ = w.srv.Serve(context.Background(), ln) })
	dial(t, "tcp", ln.Addr().String()).modern("e").alive()
	if seen.Load() != 3 {
		t.Errorf("%d errors reported", seen.Load())
	}
	w.stop()
	<-served
}

// A copy goes on over rolling restarts and crashes of the server: QEMU sends
// unanswered requests again. The disk stands for what the kernel has.
func TestQemuReconnects(t *testing.T) {
	t.Parallel()
	disk := nbdtest.NewDisk(64 * mib)
	exports := new(nbdtest.Exports).Add(&nbdtest.Export{Info: nbd.Info{Name: "e"}, Disk: disk})
	disk.Intercept(func(op string, _, _ int64) error {
		if op == "write" {
			time.Sleep(5 * time.Millisecond)
		}
		return nil
	})
	dir := t.TempDir()
	sock, src := filepath.Join(dir, "s"), filepath.Join(dir, "src.raw")
	if err := os.WriteFile(src, pattern(64*mib, 3), 0o600); err != nil {
		t.Fatal(err)
	}
	serve := func() (stop func(graceful bool)) {
		srv, err := nbd.New(nbd.Options{Exports: exports})
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("unix", sock)
		if err != nil {
			t.Fatal(err)
		}
		served := later(func() { _ = srv.Serve(context.Background(), ln) })
		return func(graceful bool) {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			if !graceful {
				cancel()
			}
			_ = srv.Shutdown(ctx)
			cancel()
			<-served
			eventually(t, "devices are closed", func() bool { return disk.Opened.Load() == disk.Closed.Load() })
		}
	}
	stop := serve()
	copied := make(chan error, 1)
	go func() {
		// One 64 KiB request after the other keeps the copy going for a while.
		out, err := tryTool("qemu-img", "convert", "-n", "-f", "raw", "-m", "4", "-W", src,
			"--target-image-opts", "driver=nbd,path="+sock+",export=e,reconnect-delay=30")
		if err != nil {
			err = errors.New(out)
		}
		copied <- err
	}()
	for i := range 6 {
		before := disk.Writes.Load()
		eventually(t, "the copy goes on", func() bool {
			return disk.Writes.Load() > before+3 || len(copied) > 0
		})
		stop(i%2 == 0)
		stop = serve()
	}
	if err := <-copied; err != nil {
		t.Fatal(err)
	}
	stop(true)
	if got := disk.Bytes(); string(got) != string(pattern(64*mib, 3)) {
		t.Error("the copy differs")
	}
	if n := disk.Opened.Load(); n < 5 {
		t.Errorf("only %d connections: the restarts came too late", n)
	}
}
