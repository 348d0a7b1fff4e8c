package sshfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Recommended are the options docs/OPERATIONS.md recommends for backup jobs.
var Recommended = []string{"max_read=65536", "max_write=65536", "direct_io"}

const (
	fuseMagic = 0x65735546       // what statfs says of a FUSE file system
	patience  = 10 * time.Second // for sshfs to end after an unmount
	interval  = 5 * time.Millisecond
)

// Mount is a mounted server.
type Mount struct {
	Dir string

	cmd    *exec.Cmd
	output output
	exited chan struct{}
	stop   func() bool
}

// Mount mounts the login's folder on dir, which it makes, and returns when the
// files are there. options are sshfs's, without -o.
func (c *Client) Mount(ctx context.Context, dir string, options ...string) (*Mount, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	all := append(c.Options(), options...)
	if c.Key == "" {
		all = append(all, "password_stdin")
	}
	m := &Mount{Dir: dir, exited: make(chan struct{})}
	m.cmd = exec.Command("sshfs", "-f", "-F", "/dev/null", "-p", c.Port, "-o", strings.Join(all, ","), c.Target()+":"+c.Path, dir)
	m.cmd.Stdin = strings.NewReader(c.Password + "\n")
	m.cmd.Stdout, m.cmd.Stderr = &m.output, &m.output
	if err := m.cmd.Start(); err != nil {
		return nil, fmt.Errorf("sshfs (package sshfs): %w", err)
	}
	go func() { _ = m.cmd.Wait(); close(m.exited) }()
	m.stop = context.AfterFunc(ctx, func() { _ = m.cmd.Process.Kill() })
	if err := m.ready(ctx); err != nil {
		return nil, errors.Join(err, m.Unmount())
	}
	return m, nil
}

func (m *Mount) ready(ctx context.Context) error {
	for {
		var s unix.Statfs_t
		if unix.Statfs(m.Dir, &s) == nil && s.Type == fuseMagic {
			return nil
		}
		select {
		case <-m.exited:
			return fmt.Errorf("sshfs did not mount %s: %v\n%s", m.Dir, m.cmd.ProcessState, &m.output)
		case <-ctx.Done():
			return fmt.Errorf("sshfs did not mount %s: %w\n%s", m.Dir, ctx.Err(), &m.output)
		case <-time.After(interval):
		}
	}
}

// Exited is closed when sshfs has ended, be it by an unmount or because the
// server ended the connection.
func (m *Mount) Exited() <-chan struct{} { return m.exited }

// Output is what sshfs has printed so far.
func (m *Mount) Output() string { return m.output.String() }

// Unmount lets go of the directory, busy or not, and ends sshfs. It may be
// called again and after sshfs has ended on its own.
func (m *Mount) Unmount() error {
	m.stop()
	// What it prints is of no use when sshfs is gone and the directory free.
	said, err := exec.Command("fusermount3", "-u", "-z", m.Dir).CombinedOutput()
	select {
	case <-m.exited:
	case <-time.After(patience):
		_ = m.cmd.Process.Kill()
		<-m.exited
		return fmt.Errorf("sshfs on %s did not end within %v after the unmount: %v\n%s%s", m.Dir, patience, err, said, &m.output)
	}
	var s unix.Statfs_t
	if err := unix.Statfs(m.Dir, &s); err != nil || s.Type == fuseMagic {
		return fmt.Errorf("%s is still mounted (%v): %s", m.Dir, err, said)
	}
	return nil
}

// output is a buffer that is read while the program writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}
