package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/internal/ids"
	"github.com/strongroom-backup/strongroom/internal/nbdclient"
	"github.com/strongroom-backup/strongroom/internal/restore"
	"github.com/strongroom-backup/strongroom/server/api"
)

func planRestore(c *cli.Context, client *api.Client) (*restoreJob, error) {
	job := &restoreJob{client: client, force: c.Bool("force")}
	var err error
	if job.format, err = restore.ParseFormat(c.String("format")); err != nil {
		return nil, usagef("--%v", err)
	}
	if c.String("output") == "" {
		return nil, usagef("--output: name the file or directory to write")
	}
	ref := c.Args().First()
	if job.point, err = client.Point(c.Context, ref); err != nil {
		return nil, err
	}
	if name := c.String("file"); name != "" {
		if c.String("disk")+diskOf(ref) != "" || job.format != restore.Raw {
			return nil, usagef("--file is for a file as it came; it goes with no disk and no --format")
		}
		err = job.chooseFile(name, c.String("output"))
	} else if err = job.choose(c.String("disk"), diskOf(ref)); err == nil {
		err = job.place(c.String("output"))
	}
	if err != nil {
		return nil, err
	}
	t, err := tlsConfig(c)
	if err != nil {
		return nil, err
	}
	job.nbd, err = findNBD(c.Context, client, c.String("api"), t)
	return job, err
}

// diskOf is the disk a reference names, if any.
func diskOf(ref string) string {
	head, _, _ := strings.Cut(ref, "@")
	if i := strings.IndexAny(head, "/:"); i >= 0 {
		return head[i+1:]
	}
	return ""
}

func (j *restoreJob) choose(flag, ref string) error {
	if flag != "" && ref != "" && flag != ref {
		return usagef("--disk %s is not the disk %s of the reference", flag, ref)
	}
	name := flag + ref
	if flag == ref {
		name = ref
	}
	var have []string
	for _, i := range j.point.Images {
		if !ids.IsName(i.Disk) {
			return fmt.Errorf("the server names a disk %.80q, which cannot be", i.Disk)
		}
		if name == "" || name == i.Disk {
			j.disks = append(j.disks, i)
		}
		have = append(have, i.Disk)
	}
	if len(have) == 0 {
		return &api.Error{Status: 404, Message: fmt.Sprintf("point %s of %s has no disk, only files", j.point.Point, j.point.VM),
			Hint: "name one with --file; strongroom point show " + j.point.Point + " lists them"}
	}
	if len(j.disks) == 0 {
		return &api.Error{Status: 404, Message: fmt.Sprintf("point %s of %s has no disk %s", j.point.Point, j.point.VM, name),
			Hint: "it has " + strings.Join(have, ", ")}
	}
	j.blobs = name == ""
	return nil
}

// place decides between a file and a directory.
func (j *restoreJob) place(output string) error {
	st, err := os.Stat(output)
	isDir := err == nil && st.IsDir()
	switch {
	case isDir || strings.HasSuffix(output, "/"):
		j.dir = output
	case len(j.disks) == 1:
		j.file, j.blobs = output, false
	case err == nil:
		return usagef("--output %s is a file, but the point has %d disks: name a directory, or one disk with --disk", output, len(j.disks))
	default:
		j.dir = output
	}
	return j.checkOutputs()
}

// outputs are the paths that will be written, disks first.
func (j *restoreJob) outputs() (paths []string) {
	for _, d := range j.disks {
		paths = append(paths, j.diskPath(d.Disk))
	}
	if j.blobs {
		for _, b := range j.point.Blobs {
			paths = append(paths, filepath.Join(j.dir, b.Name))
		}
	}
	return paths
}

func (j *restoreJob) diskPath(disk string) string {
	if j.dir == "" {
		return j.file
	}
	return filepath.Join(j.dir, disk+"."+string(j.format))
}

// checkOutputs finds what would fail late before the first byte is read.
func (j *restoreJob) checkOutputs() error {
	paths := j.outputs()
	for i, p := range paths {
		if name := filepath.Base(p); j.dir != "" && (!ids.IsName(name) || slices.Contains(paths[:i], p)) {
			return fmt.Errorf("point %s of %s: %.80q cannot be written beside the others; restore one disk with --disk",
				j.point.Point, j.point.VM, name)
		}
		if err := restore.CheckOutput(p, j.force); err != nil {
			return err
		}
	}
	return nil
}

// findNBD decides how to reach the server's NBD side: over its unix socket when
// that is here, else over TCP.
func findNBD(ctx context.Context, client *api.Client, target string, t *tls.Config) (nbdclient.Target, error) {
	info, err := client.Info(ctx)
	if err != nil {
		return nbdclient.Target{}, err
	}
	if st, err := os.Stat(info.NBD.Socket); client.Local() && err == nil && st.Mode().Type() == fs.ModeSocket {
		return nbdclient.Target{Network: "unix", Address: info.NBD.Socket}, nil
	}
	host, port, err := net.SplitHostPort(info.NBD.Address)
	if err != nil {
		return nbdclient.Target{}, fmt.Errorf("the server does not offer NBD where this command can reach it")
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "localhost"
		if u, err := url.Parse(target); err == nil && u.Hostname() != "" {
			host = u.Hostname()
		}
	}
	if !info.NBD.TLS || !info.NBD.ForceTLS && t == nil {
		return nbdclient.Target{Network: "tcp", Address: net.JoinHostPort(host, port)}, nil
	}
	if t == nil {
		t = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	t = t.Clone()
	t.ServerName = host
	return nbdclient.Target{Network: "tcp", Address: net.JoinHostPort(host, port), TLS: t}, nil
}
