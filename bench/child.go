package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	startTimeout = 30 * time.Second // for a server to listen
	stopTimeout  = 60 * time.Second // for a server to end after SIGTERM
)

// child is a server process of ours or a peer's.
type child struct {
	cmd    *exec.Cmd
	output bytes.Buffer
	exited chan struct{}
}

// startChild runs a server and waits until it listens on every one of the unix
// sockets.
func startChild(ctx context.Context, env []string, sockets []string, name string, args ...string) (*child, error) {
	c := &child{cmd: exec.Command(name, args...), exited: make(chan struct{})}
	c.cmd.Stdout, c.cmd.Stderr = &c.output, &c.output
	c.cmd.Env = append(os.Environ(), env...)
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { _ = c.cmd.Wait(); close(c.exited) }()
	for _, s := range sockets {
		if err := c.listening(ctx, s); err != nil {
			_ = c.stop()
			return nil, fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, c.output.Bytes())
		}
	}
	return c, nil
}

func (c *child) listening(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-c.exited:
			return fmt.Errorf("ended at once")
		case <-ctx.Done():
			return fmt.Errorf("does not listen on %s: %w", socket, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// stop ends the server and waits for it.
func (c *child) stop() error {
	terminate(c.cmd.Process)
	select {
	case <-c.exited:
		return nil
	case <-time.After(stopTimeout):
		_ = c.cmd.Process.Kill()
		<-c.exited
		return fmt.Errorf("%s did not end within %v and was killed:\n%s", filepath.Base(c.cmd.Path), stopTimeout, c.output.Bytes())
	}
}

// command runs a program to its end and returns what it printed. When it fails,
// the error has what it said.
func command(ctx context.Context, env []string, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var out, diag bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diag
	cmd.Env = append(os.Environ(), env...)
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, diag.Bytes())
	}
	return out.Bytes(), nil
}

// quiet runs a program for its effect; what it prints to stdout is thrown away
// by the kernel, however much it is.
func quiet(ctx context.Context, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	var diag bytes.Buffer
	cmd.Stderr = &diag
	cmd.Env = append(os.Environ(), env...)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, diag.Bytes())
	}
	return nil
}
