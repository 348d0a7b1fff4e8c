package api

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The command reaches sshfs as it is meant, whatever is in names and paths.
func TestMountCommand(t *testing.T) {
	for _, x := range []struct {
		address, key, hosts, dir string
		target, port             string
		options                  []string
	}{
		{"backup.example:2022", "job.key", "job.key.known_hosts", "web1", "job-1@backup.example:/", "2022",
			[]string{"IdentitiesOnly=yes", "IdentityFile=job.key", "UserKnownHostsFile=job.key.known_hosts", "max_write=65536", "StrictHostKeyChecking=yes"}},
		{"[2001:db8::1]:22", "", "hosts", "web1", "job-1@[2001:db8::1]:/", "22", []string{"PubkeyAuthentication=no", "UserKnownHostsFile=hosts"}},
		{"h:1", "/a b/it's $HOME;,`x`", "/a,b", "a dir", "job-1@h:/", "1", []string{`IdentityFile="/a b/it's $HOME;\,` + "`x`\"", `UserKnownHostsFile=/a\,b`}},
	} {
		l := BackupLogin{User: "job-1", Address: x.address, Path: "/"}
		command := l.MountCommand(x.key, x.hosts, x.dir)
		out, err := exec.Command("sh", "-c", `mkdir() { printf '%s\n' "$@"; }; sshfs() { printf '%s\n' "$@"; }; `+command).Output()
		args := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
		if err != nil || len(args) != 8 || args[0] != "-p" || args[1] != x.dir || args[2] != "-p" || args[3] != x.port || args[4] != "-o" || args[6] != x.target || args[7] != x.dir {
			t.Fatalf("%s: %v\n%q", command, err, args)
		}
		have := strings.Split(strings.ReplaceAll(args[5], `\,`, "\x00"), ",")
		for _, want := range x.options {
			if !slices.Contains(have, strings.ReplaceAll(want, `\,`, "\x00")) {
				t.Errorf("%s lacks %s", args[5], want)
			}
		}
	}
}
