package integration

import (
	"os"
	"os/exec"
	"time"
)

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
		if _, err := os.Stat(ready); err == nil {
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
