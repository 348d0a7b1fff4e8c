package rig

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/strongroom-backup/strongroom/server/api"
)

// Options say how a server is run. Settings are the server's own, by the name
// they have in its configuration file ("nbd.max-connections=8").
type Options struct {
	Binary   string
	Data     string   // the data directory
	Settings []string // key=value
	Env      []string // NAME=value, besides this process's own
	Log      string   // file the server's output is appended to
}

// Server is a strongroom process and what is needed to start it again.
type Server struct {
	Options
	Info api.Info

	client *api.Client
	cmd    *exec.Cmd
	exited chan struct{}
}

// StartServer runs a server and returns when it is healthy. It listens on unix
// sockets in the data directory and on free loopback ports.
func StartServer(ctx context.Context, o Options) (*Server, error) {
	if err := os.MkdirAll(o.Data, 0o700); err != nil {
		return nil, err
	}
	s := &Server{Options: o}
	if s.Log == "" {
		s.Log = filepath.Join(filepath.Dir(o.Data), "server.log")
	}
	var err error
	if s.client, err = api.NewClient(s.APISocket(), api.ClientOptions{}); err != nil {
		return nil, err
	}
	return s, s.Start(ctx)
}

// APISocket is the path of the control API's socket.
func (s *Server) APISocket() string { return filepath.Join(s.Data, "api.sock") }

// NBDSocket is the path of the NBD server's socket.
func (s *Server) NBDSocket() string { return filepath.Join(s.Data, "nbd.sock") }

// UnixURI is the NBD URI of an export over the unix socket.
func (s *Server) UnixURI(export string) string {
	return "nbd+unix:///" + export + "?socket=" + s.NBDSocket()
}

// Start runs the process again after Kill or Stop.
func (s *Server) Start(ctx context.Context) error {
	log, err := os.OpenFile(s.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own descriptor
	s.cmd = exec.Command(s.Binary, "serve", "--data", s.Data)
	s.cmd.Env = s.environment()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	exited, cmd := make(chan struct{}), s.cmd
	go func() { cmd.Wait(); close(exited) }()
	s.exited = exited
	if err := s.healthy(ctx); err != nil {
		s.Kill()
		return fmt.Errorf("strongroom serve: %w\n%s", err, s.LogTail())
	}
	return nil
}

func (s *Server) environment() []string {
	env := append(os.Environ(),
		"STRONGROOM_NBD_LISTEN=127.0.0.1:0", "STRONGROOM_HTTP_LISTEN=127.0.0.1:0", "STRONGROOM_API="+s.APISocket())
	for _, kv := range s.Settings {
		env = append(env, settingEnv(kv))
	}
	return append(env, s.Env...)
}

// settingEnv spells key=value as the setting's environment variable.
func settingEnv(kv string) string {
	key, value, _ := bytes.Cut([]byte(kv), []byte("="))
	key = bytes.ToUpper(key)
	key = bytes.ReplaceAll(bytes.ReplaceAll(key, []byte("."), []byte("_")), []byte("-"), []byte("_"))
	return "STRONGROOM_" + string(key) + "=" + string(value)
}

func (s *Server) healthy(ctx context.Context) error {
	for {
		_, err := s.client.Health(ctx)
		if err == nil {
			s.Info, err = s.client.Info(ctx)
			return err
		}
		select {
		case <-s.exited:
			return fmt.Errorf("it ended: %v", s.cmd.ProcessState)
		case <-ctx.Done():
			return err
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill()
	<-s.exited
}

// Stop drains the server with SIGTERM. It must exit 0 before ctx ends.
func (s *Server) Stop(ctx context.Context) error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("strongroom serve had already ended: %w", err)
	}
	select {
	case <-s.exited:
	case <-ctx.Done():
		s.Kill()
		return fmt.Errorf("strongroom serve did not drain: %w\n%s", ctx.Err(), s.LogTail())
	}
	if !s.cmd.ProcessState.Success() {
		return fmt.Errorf("strongroom serve: %v\n%s", s.cmd.ProcessState, s.LogTail())
	}
	return nil
}

// Pid is the process's.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// LogTail is the end of what the server has printed.
func (s *Server) LogTail() string {
	const tail = 8 << 10
	text, err := os.ReadFile(s.Log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-tail):])
}
