package integration

import (
	"net"
	"os"
	"os/exec"
	"time"
)

// isReady tells whether a file is there and, if it is a socket, somebody
// listens: the name is there a moment before.
func isReady(path string) bool {
	info, err := os.Stat(path)
	if err != nil || info.Mode()&os.ModeSocket == 0 {
		return err == nil
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		return false
	}
	return c.Close() == nil
}

// background runs a program until the test ends and waits for the file (a
// socket, a mount's file) that says it is ready.
func (s *scene) background(ready, name string, args ...string) {
	s.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	s.must(cmd.Start())
	gone := make(chan struct{})
	go func() { cmd.Wait(); close(gone) }()
	s.Cleanup(func() { cmd.Process.Kill(); <-gone })
	for {
		if isReady(ready) {
			return
		}
		select {
		case <-gone:
			s.Fatalf("%s ended at once: %v", name, cmd.ProcessState)
		case <-s.ctx.Done():
			s.Fatalf("%s is not ready: %v", name, s.ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}
