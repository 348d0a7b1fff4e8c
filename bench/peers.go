package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
)

// repository is restic's or borg's, with the image in it as the only content.
type repository struct {
	dir    string
	env    []string
	init   []string
	backup []string
	dump   []string // prints the image

	restore []string // a directory is to be appended; restic only
}

// restic keeps its repository of default version and compression: 2 and auto
// (zstd) since restic 0.14.
func restic(work, image string) repository {
	dir := filepath.Join(work, "restic")
	tool := func(args ...string) []string {
		return append([]string{"restic", "--quiet", "--repo", dir, "--cache-dir", filepath.Join(work, "restic-cache")}, args...)
	}
	return repository{
		dir: dir, env: []string{"RESTIC_PASSWORD=bench"},
		init:   tool("init"),
		backup: tool("backup", image),
		dump:   tool("dump", "latest", image),

		restore: tool("restore", "latest", "--target"),
	}
}

// borg keeps an unencrypted repository.
func borg(work, image, compression string) repository {
	dir := filepath.Join(work, "borg-"+compression)
	return repository{
		dir:    dir,
		env:    []string{"BORG_BASE_DIR=" + filepath.Join(work, "borg-base"), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes"},
		init:   []string{"borg", "init", "--encryption", "none", dir},
		backup: []string{"borg", "create", "--compression", compression, dir + "::a", image},
		dump:   []string{"borg", "extract", "--stdout", dir + "::a"},
	}
}

// fresh makes the repository anew, empty.
func (r repository) fresh(ctx context.Context) error {
	if err := os.RemoveAll(r.dir); err != nil {
		return err
	}
	return r.run(ctx, r.init)
}

func (r repository) run(ctx context.Context, argv []string) error {
	return quiet(ctx, r.env, argv[0], argv[1:]...)
}

// startDiscard runs an NBD server that throws away what it is sent.
func startDiscard(ctx context.Context, socket string, size int64) (*child, error) {
	return startChild(ctx, nil, []string{socket}, "nbdkit", "--foreground", "--unix", socket, "null", strconv.FormatInt(size, 10))
}

// startQemuNBD serves a qcow2 file read-only to as many connections as a client
// wants.
func startQemuNBD(ctx context.Context, socket, file string) (*child, error) {
	return startChild(ctx, nil, []string{socket}, "qemu-nbd", "--read-only", "--persistent", "--shared", "64",
		"--format", "qcow2", "--socket", socket, file)
}

// convertToQcow2 is the packed copy that full backups are compared with.
func convertToQcow2(ctx context.Context, raw, qcow2 string) error {
	return quiet(ctx, nil, "qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "compression_type=zstd",
		"-W", "-m", "16", raw, qcow2)
}

// convertToNBD writes a raw file to an export, as every full backup here does.
func convertToNBD(ctx context.Context, raw, uri string) error {
	return quiet(ctx, nil, "qemu-img", "convert", "-n", "-W", "-m", "16", "-f", "raw", "-O", "raw", raw, uri)
}

// convertFromNBD writes an export over an existing raw file.
func convertFromNBD(ctx context.Context, uri, raw string) error {
	return quiet(ctx, nil, "qemu-img", "convert", "-n", "-W", "-m", "16", "-f", "raw", "-O", "raw", uri, raw)
}
