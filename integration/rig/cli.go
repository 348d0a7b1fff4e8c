package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/strongroom-backup/strongroom/server/api"
)

// CLIError is a command that did not exit 0.
type CLIError struct {
	Args   []string
	Code   int
	Stderr string
}

func (e *CLIError) Error() string {
	return fmt.Sprintf("strongroom %s: exit %d: %s", strings.Join(e.Args, " "), e.Code, e.Stderr)
}

// Run runs a command of the binary against the server and returns its output.
func (s *Server) Run(ctx context.Context, args ...string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, s.Binary, args...)
	cmd.Env = append(os.Environ(), "STRONGROOM_API="+s.APISocket())
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, ok := err.(*exec.ExitError); ok {
		return nil, &CLIError{args, cmd.ProcessState.ExitCode(), strings.TrimSpace(stderr.String())}
	}
	return stdout.Bytes(), err
}

// JSON runs a command with --json and decodes its output.
func (s *Server) JSON(ctx context.Context, out any, args ...string) error {
	text, err := s.Run(ctx, append(args, "--json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("strongroom %s --json: %w\n%s", strings.Join(args, " "), err, text)
	}
	return nil
}

// StartBackup runs backup start; flags are added to the command.
func (s *Server) StartBackup(ctx context.Context, vm string, flags ...string) (b api.Backup, err error) {
	return b, s.JSON(ctx, &b, append([]string{"backup", "start", vm}, flags...)...)
}

// Commit runs backup commit.
func (s *Server) Commit(ctx context.Context, session string) (r api.Receipt, err error) {
	return r, s.JSON(ctx, &r, "backup", "commit", session)
}

// Abort runs backup abort.
func (s *Server) Abort(ctx context.Context, session string) (b api.Backup, err error) {
	return b, s.JSON(ctx, &b, "backup", "abort", session)
}

// Status runs backup status.
func (s *Server) Status(ctx context.Context, session string) (b api.Backup, err error) {
	return b, s.JSON(ctx, &b, "backup", "status", session)
}

// Points runs point ls.
func (s *Server) Points(ctx context.Context, vm string) (l []api.Point, err error) {
	return l, s.JSON(ctx, &l, "point", "ls", vm)
}

// Stats runs stats.
func (s *Server) Stats(ctx context.Context) (st api.Stats, err error) {
	return st, s.JSON(ctx, &st, "stats")
}
