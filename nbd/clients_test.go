package nbd_test

import (
	"context"
	"errors"
	"os"
	"testing"
)

func TestClients(t *testing.T) {
	w := newWorld(t, nil)
	if l := w.srv.Clients("e"); len(l) != 0 {
		t.Errorf("before anybody came: %v", l)
	}
	first, second := w.modern("e"), w.dialTCP().modern("e")
	w.modern("ro")
	l := w.srv.Clients("e")
	if len(l) != 2 || l[0].Network != "unix" || l[0].PID != os.Getpid() || l[1].Network != "tcp" || l[1].PID != 0 || l[1].Addr != second.LocalAddr().String() {
		t.Errorf("clients %+v", l)
	}
	first.bye()
	second.Close()
	eventually(t, "both are gone", func() bool { return len(w.srv.Clients("e")) == 0 })
	if l := w.srv.Clients("never heard of"); len(l) != 0 {
		t.Errorf("of an unknown export: %v", l)
	}
}

// Who is at the door when SettledClients is called is in its answer, or stays out.
func TestSettledClients(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gate("write")
	a := w.simple("e")
	a.request(cmdWrite, 0, 0, 3, []byte("abc"))
	eventually(t, "the write has begun", func() bool { return w.disk.Busy.Load() == 1 })
	_, got := w.goLater("e") // holds the door until the write is done
	notYet(t, got)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.srv.SettledClients(ctx, "e"); !errors.Is(err, context.Canceled) {
		t.Errorf("while the door is held: %v", err)
	}
	count := make(chan int)
	go func() {
		l, err := w.srv.SettledClients(t.Context(), "e")
		if err != nil {
			t.Error(err)
		}
		count <- len(l)
	}()
	close(g.open)
	ack(t, got)
	if n := <-count; n != 2 {
		t.Errorf("%d clients, want 2", n)
	}
}
