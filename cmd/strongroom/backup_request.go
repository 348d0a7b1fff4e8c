package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

// blobFileMax is more than a server takes; it keeps a wrong path from being
// read whole.
const blobFileMax = 16 << 20

func backupRequest(c *cli.Context) (r api.BackupRequest, err error) {
	r = api.BackupRequest{
		VM: c.Args().First(), Mode: c.String("mode"), Parent: c.String("parent"),
		ParentCheckpoint: c.String("parent-checkpoint"), Checkpoint: c.String("checkpoint"),
		Manual: c.Bool("manual"), Branch: c.Bool("branch"), SFTP: c.Bool("sftp"),
	}
	if c.String("key") != "" && !r.SFTP {
		return r, usagef("--key is for the login that --sftp makes")
	}
	if r.Branch && r.Parent == "" {
		return r, usagef("--branch needs --parent: the point that the VM was set back to")
	}
	if r.Disks, err = parseDisks(c.StringSlice("disk"), r.SFTP); err != nil {
		return r, err
	}
	if r.Labels, err = parseLabels(c.StringSlice("label")); err != nil {
		return r, err
	}
	if r.TTLSeconds, err = parseTTL(c.String("ttl")); err != nil {
		return r, err
	}
	r.Blobs, err = readBlobs(c.StringSlice("blob"))
	return r, err
}

// parseTTL reads --ttl, in seconds; 0: not given.
func parseTTL(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	ttl, err := units.ParseDuration(text)
	if err != nil || time.Duration(ttl) < time.Second {
		return 0, usagef("--ttl: %q: want a duration of at least 1s, such as 24h or 2d", text)
	}
	return int64(time.Duration(ttl) / time.Second), nil
}

// parseDisks reads DISK=SIZE; there may be none when files can come.
func parseDisks(args []string, none bool) (disks []api.DiskRequest, err error) {
	if len(args) == 0 && !none {
		return nil, usagef("name at least one disk (--disk vda=10GiB), or take files with --sftp")
	}
	for _, a := range args {
		name, text, ok := strings.Cut(a, "=")
		size, err := units.ParseSize(text)
		if !ok || name == "" || err != nil {
			return nil, usagef("--disk %q: want DISK=SIZE, such as vda=10GiB", a)
		}
		disks = append(disks, api.DiskRequest{Disk: name, Size: int64(size)})
	}
	return disks, nil
}

func parseLabels(args []string) (map[string]string, error) {
	labels := map[string]string{}
	for _, a := range args {
		k, v, ok := strings.Cut(a, "=")
		if _, twice := labels[k]; !ok || k == "" || twice {
			return nil, usagef("--label %q: want KEY=VALUE, each key once", a)
		}
		labels[k] = v
	}
	return labels, nil
}

func readBlobs(args []string) (blobs []api.Blob, err error) {
	for _, a := range args {
		name, path, ok := strings.Cut(a, "=")
		if !ok || name == "" || path == "" {
			return nil, usagef("--blob %q: want NAME=FILE", a)
		}
		data, err := readLimited(path, blobFileMax)
		if err != nil {
			return nil, fmt.Errorf("--blob %s: %w", name, err)
		}
		blobs = append(blobs, api.Blob{Name: name, Data: data})
	}
	return blobs, nil
}

func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is larger than %s", path, units.Human(limit))
	}
	return data, err
}
