package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/strongroom-backup/strongroom/internal/nbdio"
	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"strongroom": main,
	})
}

// TestScripts runs testdata/script/*.txtar: the command as users call it. Each
// script has a server of its own in this process; $STRONGROOM_DATA is its
// directory, $REPO that of the repository.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			dir, err := os.MkdirTemp("", "sr") // short: a socket's path has 107 bytes
			if err != nil {
				return err
			}
			e.Defer(func() { os.RemoveAll(dir) })
			e.Setenv("STRONGROOM_DATA", filepath.Join(dir, "data"))
			repo, err := filepath.Abs("../..")
			if err != nil {
				return err
			}
			e.Setenv("REPO", repo)
			e.Values[runningKey{}] = &running{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"server": cmdServer, "capture": cmdCapture, "disk": cmdDisk, "upload": cmdUpload, "code": cmdCode, "await": cmdAwait,
			"shut": cmdShut, "backup": cmdBackup, "rot": cmdRot, "send": cmdSend,
		},
	})
}

// server: starts a server on $STRONGROOM_DATA, or on the port and TLS the
// arguments (KEY=VALUE settings) ask for. $NBD, $HTTP and $SFTP become its addresses.
func cmdServer(ts *testscript.TestScript, neg bool, args []string) {
	c := server.NewConfig()
	flags := []server.Flag{
		{Path: "data", Value: ts.Getenv("STRONGROOM_DATA")}, {Path: "nbd.listen", Value: "127.0.0.1:0"}, {Path: "http.listen", Value: "127.0.0.1:0"},
		{Path: "store.reserve", Value: "1M"},
	}
	for _, a := range args {
		f, err := server.ParseFlag(os.Expand(a, ts.Getenv))
		ts.Check(err)
		flags = append(flags, f)
	}
	c, _, err := server.Load(server.Sources{Flags: flags})
	ts.Check(err)
	s, err := server.Open(server.Options{Config: c, Version: "test"})
	ts.Check(err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	ts.Setenv("NBD", s.NBDAddress())
	ts.Setenv("HTTP", s.HTTPAddress())
	ts.Setenv("SFTP", s.SFTPAddress())
	r := ts.Value(runningKey{}).(*running)
	r.stop = func() error {
		r.stop = nil
		stop()
		return <-ended
	}
	ts.Defer(func() {
		if r.stop == nil {
			return
		}
		if err := r.stop(); err != nil {
			ts.Logf("server ended with %v", err)
		}
	})
}

// running is a script's server; stop is nil while there is none.
type running struct{ stop func() error }

type runningKey struct{}

// shut: stops the server.
func cmdShut(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(ts.Value(runningKey{}).(*running).stop())
}

// backup VAR VM FILE [FLAGS…]: backs a raw disk up as disk vda of VM; $VAR
// becomes the point.
func cmdBackup(ts *testscript.TestScript, neg bool, args []string) {
	st, err := os.Stat(ts.MkAbs(args[2]))
	ts.Check(err)
	start := append([]string{"backup", "start", args[1], "--json", "--disk", fmt.Sprintf("vda=%d", st.Size())}, args[3:]...)
	ts.Check(ts.Exec("strongroom", start...))
	cmdCapture(ts, false, []string{"SESSION", `"session": "(\w+)"`})
	cmdCapture(ts, false, []string{"EXPORT", `"export": "(\w+)"`})
	cmdUpload(ts, false, []string{args[2], ts.Getenv("EXPORT")})
	ts.Check(ts.Exec("strongroom", "backup", "commit", "--json", ts.Getenv("SESSION")))
	cmdCapture(ts, false, []string{args[0], `"point": "(\w+)"`})
}

// send KEY HOSTS SESSION COMMAND…: has OpenSSH's sftp do commands in the folder
// of a session, with the key and the host's line in files.
func cmdSend(ts *testscript.TestScript, neg bool, args []string) {
	host, port, err := net.SplitHostPort(ts.Getenv("SFTP"))
	ts.Check(err)
	cmd := exec.Command("sftp", "-F", "/dev/null", "-b", "-", "-P", port, "-i", ts.MkAbs(args[0]), "-o", "UserKnownHostsFile="+ts.MkAbs(args[1]),
		"-o", "GlobalKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "job-"+args[2]+"@"+host)
	cmd.Dir, cmd.Stdin = ts.MkAbs("."), strings.NewReader(strings.Join(args[3:], "\n")+"\n")
	out, err := cmd.CombinedOutput()
	ts.Logf("%s", out)
	if (err != nil) != neg {
		ts.Fatalf("sftp: %v", err)
	}
}

// rot: flips a bit in the data of the largest pack.
func cmdRot(ts *testscript.TestScript, neg bool, args []string) {
	packs, err := filepath.Glob(filepath.Join(ts.Getenv("STRONGROOM_DATA"), "tier0/packs/*/*.pack"))
	ts.Check(err)
	var path string
	var content []byte
	for _, p := range packs {
		text, err := os.ReadFile(p)
		ts.Check(err)
		if len(text) > len(content) {
			path, content = p, text
		}
	}
	content[len(content)/4] ^= 1
	ts.Check(os.WriteFile(path, content, 0o600))
}

// capture NAME REGEXP: sets $NAME to the first group found in the last output.
func cmdCapture(ts *testscript.TestScript, neg bool, args []string) {
	m := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if m == nil {
		ts.Fatalf("%s is not in the output", args[1])
	}
	ts.Setenv(args[0], m[1])
}

// disk FILE SIZE SEED: makes a raw disk with data in every other 256 KiB.
func cmdDisk(ts *testscript.TestScript, neg bool, args []string) {
	size, err := units.ParseSize(args[1])
	ts.Check(err)
	seed, err := strconv.Atoi(args[2])
	ts.Check(err)
	content := make([]byte, size)
	rng := rand.NewChaCha8([32]byte{byte(seed)})
	for off := 0; off < len(content); off += 512 << 10 {
		rng.Read(content[off:min(off+256<<10, len(content))])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), content, 0o600))
}

// upload FILE EXPORT: writes the data of a raw disk over the NBD unix socket.
func cmdUpload(ts *testscript.TestScript, neg bool, args []string) {
	content, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := nbdio.Dial(ctx, "unix", filepath.Join(ts.Getenv("STRONGROOM_DATA"), "nbd.sock"), args[1])
	if neg {
		if err == nil {
			ts.Fatalf("export %s was opened", args[1])
		}
		return
	}
	ts.Check(err)
	defer c.Close()
	const part = 256 << 10
	for off := 0; off < len(content); off += part {
		p := content[off:min(off+part, len(content))]
		if len(bytes.Trim(p, "\x00")) == 0 {
			ts.Check(c.Zero(int64(off), int64(len(p))))
			continue
		}
		_, err := c.WriteAt(p, int64(off))
		ts.Check(err)
	}
	ts.Check(c.Flush())
}

// code N COMMAND…: runs a command that must exit with N.
func cmdCode(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if e, ok := err.(*exec.ExitError); ok {
		got = e.ExitCode()
	} else if err != nil {
		got = -1
	}
	if got != want {
		ts.Fatalf("%v exited with %d (%v), want %d", args[1:], got, err, want)
	}
}

// await COMMAND…: runs a command until it succeeds.
func cmdAwait(ts *testscript.TestScript, neg bool, args []string) {
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := ts.Exec(args[0], args[1:]...)
		if err == nil {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%v never succeeded: %v", args, err)
		}
	}
}
