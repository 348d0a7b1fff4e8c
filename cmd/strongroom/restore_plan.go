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

// checkRestoreFlags refuses flags that contradict each other.
func checkRestoreFlags(c *cli.Context) error {
	output, format := c.String("output"), c.String("format")
	for _, f := range inPlaceFlags() {
		if c.IsSet(f.Names()[0]) {
			return usagef("--%s goes with --in-place", f.Names()[0])
		}
	}
	if _, err := restore.ParseFormat(format); err != nil && format != string(restore.VMA) {
		return usagef("--format %.40q: want raw, qcow2 or vma", format)
	}
	switch {
	case c.String("chain") != "" && (output != "" || c.String("file") != ""):
		return usagef("--chain names a directory itself; it goes with no --output and no --file")
	case c.String("chain") != "" && c.IsSet("format") && format != string(restore.QCOW2):
		return usagef("--chain writes qcow2 files")
	case c.String("chain") == "" && output == "":
		return usagef("--output: name the file, block device or directory to write, or - for standard output")
	case output == stdoutName && c.Bool("verify"):
		return usagef("--verify: what went to standard output cannot be read back")
	case output == stdoutName && c.String("manifest") != "" && streamedName(c.String("manifest")) == "":
		return usagef("--manifest: name it FILE%s after the FILE into which standard output goes", restore.ManifestSuffix)
	}
	return nil
}

// streamedName is the file beside which a manifest of that name lies.
func streamedName(manifest string) string {
	name, ok := strings.CutSuffix(filepath.Base(manifest), restore.ManifestSuffix)
	if !ok {
		return ""
	}
	return name
}

func planRestore(c *cli.Context, client *api.Client) (*restoreJob, error) {
	job := &restoreJob{client: client, force: c.Bool("force"), verify: c.Bool("verify"), format: restore.Format(c.String("format"))}
	info, err := client.Info(c.Context)
	if err != nil {
		return nil, err
	}
	job.record.Server = info.Version
	ref := c.Args().First()
	if job.point, err = client.Point(c.Context, ref); err != nil {
		return nil, err
	}
	if err := job.aim(c, diskOf(ref)); err != nil {
		return nil, err
	}
	job.placeManifest(c.String("manifest"), diskOf(ref)+c.String("disk"))
	if err := job.checkOutputs(); err != nil {
		return nil, err
	}
	t, err := tlsConfig(c)
	if err != nil {
		return nil, err
	}
	job.nbd, err = findNBD(c.Context, client, c.String("api"), t)
	return job, err
}

// aim decides what is written where.
func (j *restoreJob) aim(c *cli.Context, disk string) error {
	if name := c.String("file"); name != "" {
		if c.String("disk")+disk != "" || j.format != restore.Raw {
			return usagef("--file is for a file as it came; it goes with no disk and no --format")
		}
		return j.chooseFile(name, c.String("output"))
	}
	if err := j.choose(c.String("disk"), disk); err != nil {
		return err
	}
	if dir := c.String("chain"); dir != "" {
		j.format, j.dir = restore.QCOW2, dir
		return j.findChains(c.Context)
	}
	return j.place(c.String("output"))
}

// placeManifest decides where the manifest goes: into a directory with all of a
// point, else beside the file; nowhere for devices and standard output.
func (j *restoreJob) placeManifest(path, disk string) {
	switch {
	case path != "":
		j.manifest = path
	case j.chains != nil || j.dir != "" && j.file == "" && disk == "":
		j.manifest = filepath.Join(j.dir, restore.ManifestName)
	default:
		file := j.file
		if file == "" {
			file = j.diskPath(j.disks[0].Disk)
		}
		if file != stdoutName && !restore.IsDevice(file) {
			j.manifest = file + restore.ManifestSuffix
		}
	}
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
	isDir := err == nil && st.IsDir() || strings.HasSuffix(output, "/")
	switch {
	case output == stdoutName && len(j.disks) > 1 && j.format != restore.VMA:
		return usagef("--output -: the point has %d disks: name one with --disk, or --format vma", len(j.disks))
	case isDir && j.format == restore.VMA:
		j.dir, j.file = output, filepath.Join(output, j.point.VM+".vma")
	case isDir:
		j.dir = output
	case j.format == restore.VMA:
		j.file = output
	case len(j.disks) == 1:
		j.file, j.blobs = output, false
	case err == nil:
		return usagef("--output %s is a file, but the point has %d disks: name a directory, or one disk with --disk", output, len(j.disks))
	default:
		j.dir = output
	}
	if restore.IsDevice(output) && j.format != restore.Raw {
		return usagef("--output %s is a block device: only raw disks are written to one", output)
	}
	return nil
}

func (j *restoreJob) diskPath(disk string) string {
	if j.file != "" {
		return j.file
	}
	return filepath.Join(j.dir, disk+"."+string(j.format))
}

// outputs are the paths that will be written; directories of several chains.
func (j *restoreJob) outputs() (paths []string) {
	switch {
	case j.file != "":
		paths = []string{j.file}
	case j.chains == nil:
		for _, d := range j.disks {
			paths = append(paths, j.diskPath(d.Disk))
		}
	case len(j.disks) == 1:
		for k, l := range j.chains[j.disks[0].Disk] {
			paths = append(paths, filepath.Join(j.dir, restore.LayerName(k, l.Point)))
		}
	default:
		for _, d := range j.disks {
			paths = append(paths, filepath.Join(j.dir, d.Disk))
		}
	}
	if j.blobs && j.format != restore.VMA {
		for _, b := range j.point.Blobs {
			paths = append(paths, filepath.Join(j.dir, b.Name))
		}
	}
	if j.manifest != "" {
		paths = append(paths, j.manifest)
	}
	return paths
}

// checkOutputs finds what would fail late before the first byte is read.
func (j *restoreJob) checkOutputs() error {
	paths := j.outputs()
	for i, p := range paths {
		name := filepath.Base(p)
		inDir := j.dir != "" && p != j.manifest && j.source == nil
		if inDir && !ids.IsName(name) || slices.ContainsFunc(paths[:i], func(q string) bool { return filepath.Clean(q) == filepath.Clean(p) }) {
			return fmt.Errorf("point %s of %s: %.80q cannot be written beside the others; restore one disk with --disk",
				j.point.Point, j.point.VM, name)
		}
		if err := j.checkOutput(p); err != nil {
			return err
		}
	}
	for _, d := range j.disks {
		if j.chains == nil {
			break
		}
		if err := j.chain(d.Disk).Check(); err != nil {
			return err
		}
	}
	return nil
}

// size is that of what goes onto a device.
func (j *restoreJob) size() int64 {
	if j.source != nil {
		return j.source.Size
	}
	return j.disks[0].Size
}

// outdated says that the manifest there is that of an earlier restore to the same
// file. Whether that one may be written has been asked.
func (j *restoreJob) outdated() bool {
	if j.manifest != j.file+restore.ManifestSuffix {
		return false
	}
	_, err := restore.ReadManifest(j.manifest)
	return err == nil
}

func (j *restoreJob) checkOutput(path string) error {
	switch {
	case path == stdoutName, path == j.manifest && j.outdated():
		return nil
	case restore.IsDevice(path) && path != j.manifest:
		if err := restore.CheckDevice(path, j.size(), j.force); err != nil {
			return &refusedError{err}
		}
		return nil
	case len(j.chains) > 1 && j.chains[filepath.Base(path)] != nil && path != j.manifest:
		return nil // a directory, see chain
	}
	return restore.CheckOutput(path, j.force)
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
