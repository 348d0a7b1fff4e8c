package guest

import (
	"context"
	"errors"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// newShell is a console whose guest is a shell on this machine, behind a pair of
// sockets; its lines end as a terminal's do.
func newShell(t *testing.T) (*Console, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	near, far := net.Pipe()
	c := newConsole(near)
	cmd := exec.CommandContext(ctx, "sh", "-c", `stdbuf -o0 tr '\r' '\n' | sh 2>&1 | sed -u 's/$/\r/'`)
	cmd.Stdin, cmd.Stdout = far, far
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); cmd.Wait() })
	return c, ctx
}

func TestConsole(t *testing.T) {
	c, ctx := newShell(t)
	if out, err := c.Run(ctx, "echo one; echo two"); out != "one\ntwo" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := c.Run(ctx, "echo no; (exit 3)"); out != "no" || !errors.Is(err, ErrGuestFailed) || !strings.Contains(err.Error(), "exit 3") {
		t.Errorf("%q, %v", out, err)
	}
	wait, err := c.Start("echo ':0:9>'")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := wait(ctx); out != ":0:9>" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	short, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.Until(short, "never"); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for what never comes: %v", err)
	}
	if !strings.Contains(c.Output(), "one\ntwo\n") {
		t.Errorf("kept: %q", c.Output())
	}
}

func TestConsoleOfAnEndedGuest(t *testing.T) {
	near, far := net.Pipe()
	c := newConsole(near)
	go func() { far.Write([]byte("Kernel panic")); far.Close() }()
	if _, err := c.Until(context.Background(), "login: "); err == nil || !strings.Contains(err.Error(), "Kernel panic") {
		t.Errorf("%v", err)
	}
	if text, err := c.Until(context.Background(), "panic"); text != "Kernel " || err != nil {
		t.Errorf("%q, %v", text, err)
	}
}
