package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
)

// names of what is backed up.
const (
	vmName   = "bench"
	diskName = "vda"
)

// server is a running strongroom with a data directory of its own.
type server struct {
	*child
	binary, data string
}

// session is an open backup of one disk.
type session struct {
	ID    string `json:"session"`
	Disks []struct {
		Export string `json:"export"`
		Unix   string `json:"unix_uri"`
	} `json:"disks"`
}

// receipt is what a commit answers.
type receipt struct {
	Point  string `json:"point"`
	Images []struct {
		Written int64 `json:"written_bytes"`
		New     int64 `json:"new_bytes"`
		Stored  int64 `json:"stored_bytes"`
	} `json:"images"`
}

func startServer(ctx context.Context, binary, data string, settings ...string) (*server, error) {
	s := &server{binary: binary, data: data}
	env := append([]string{"STRONGROOM_NBD_LISTEN=none", "STRONGROOM_HTTP_LISTEN=none"}, settings...)
	var err error
	s.child, err = startChild(ctx, env, []string{s.socket(), s.api()}, binary, "serve", "--data", data)
	return s, err
}

func (s *server) socket() string { return filepath.Join(s.data, "nbd.sock") }

func (s *server) api() string { return filepath.Join(s.data, "api.sock") }

// cli runs a command of ours against the server and decodes its JSON.
func (s *server) cli(ctx context.Context, answer any, args ...string) error {
	out, err := command(ctx, []string{"STRONGROOM_API=" + s.api()}, s.binary, args...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, answer); err != nil {
		return fmt.Errorf("strongroom %v: %w:\n%s", args, err, out)
	}
	return nil
}

// begin opens a backup of the VM's one disk.
func (s *server) begin(ctx context.Context, vm string, size int64, mode string) (session, error) {
	var open session
	err := s.cli(ctx, &open, "backup", "start", vm, "--disk", diskName+"="+strconv.FormatInt(size, 10), "--mode", mode, "--json")
	if err == nil && len(open.Disks) != 1 {
		err = fmt.Errorf("backup start answered %d disks, want 1", len(open.Disks))
	}
	return open, err
}

func (s *server) commit(ctx context.Context, open session) (receipt, error) {
	var r receipt
	err := s.cli(ctx, &r, "backup", "commit", open.ID, "--json")
	if err == nil && (r.Point == "" || len(r.Images) != 1) {
		err = fmt.Errorf("backup commit answered point %q, %d images", r.Point, len(r.Images))
	}
	return r, err
}

// export is the URI of a committed point.
func (s *server) export(vm, point string) string {
	return uri(vm+"/"+diskName+"@"+point, s.socket())
}

// uri names an export of a server on a unix socket.
func uri(export, socket string) string { return "nbd+unix:///" + export + "?socket=" + socket }
