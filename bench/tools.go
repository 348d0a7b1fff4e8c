package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
)

// tool is a program that must be there: its Debian package and how it tells
// its version.
type tool struct {
	name, pkg string
	version   []string
}

var tools = []tool{
	{"qemu-img", "qemu-utils", []string{"--version"}},
	{"qemu-nbd", "qemu-utils", []string{"--version"}},
	{"qemu-storage-daemon", "qemu-system-common", []string{"--version"}},
	{"restic", "restic", []string{"version"}},
	{"borg", "borgbackup", []string{"--version"}},
	{"nbdkit", "nbdkit", []string{"--version"}},
	{"nbdcopy", "libnbd-bin", []string{"--version"}},
	{"fio", "fio", []string{"--version"}},
	{"zstd", "zstd", []string{"--version"}},
	{"mke2fs", "e2fsprogs", []string{"-V"}},
	{"debugfs", "e2fsprogs", []string{"-V"}},
	{"sshfs", "sshfs", []string{"--version"}},
	{"fusermount3", "fuse3", []string{"--version"}},
	{"ssh", "openssh-client", []string{"-V"}},
	{"sshd", "openssh-server", nil}, // of ssh's version
}

// findTools returns what every tool says of its version. All that are missing
// are named at once.
func findTools(ctx context.Context) ([]string, error) {
	var missing error
	found := []string{runtime.Version() + " (strongroom, CGO_ENABLED=0)"}
	for _, t := range tools {
		if _, err := exec.LookPath(t.name); err != nil {
			missing = errors.Join(missing, fmt.Errorf("%s is missing: apt-get install %s", t.name, t.pkg))
			continue
		}
		if t.version == nil {
			continue
		}
		out, err := exec.CommandContext(ctx, t.name, t.version...).CombinedOutput()
		if err != nil {
			missing = errors.Join(missing, fmt.Errorf("%s does not run: %w", t.name, err))
			continue
		}
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		found = append(found, strings.Trim(line, "* "))
	}
	return found, missing
}
