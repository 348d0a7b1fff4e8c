package testdisk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Disk is an image and what was put into it.
type Disk struct {
	Path  string
	Size  int64
	Bytes int64    // in files
	Files []string // their paths in the image
}

// NewExt4 makes an ext4 image of size bytes at path, with files from below
// roots that hold at least content bytes. The error wraps ErrTooFewFiles when
// the roots do not hold as much.
func NewExt4(path string, size, content int64, roots ...string) (*Disk, error) {
	chosen, err := choose(roots, content)
	if err != nil {
		return nil, err
	}
	staging, err := os.MkdirTemp(filepath.Dir(path), "files-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(staging)
	d := &Disk{Path: path, Size: size}
	for _, s := range chosen {
		n, err := copyInto(staging, s.path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since it was listed
		}
		if err != nil {
			return nil, err
		}
		d.Bytes += n
		d.Files = append(d.Files, s.path)
	}
	return d, mke2fs(path, size, staging)
}

// copyInto copies a file to the same path below dir.
func copyInto(dir, file string) (int64, error) {
	in, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	to := filepath.Join(dir, file)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return 0, err
	}
	out, err := os.Create(to)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(out, in)
	return n, errors.Join(err, out.Close())
}

// mke2fs fills a new image; its ids are fixed so that equal files make images
// that are as equal as mke2fs can make them.
func mke2fs(path string, size int64, staging string) error {
	_ = os.Remove(path)
	const id = "5ec0de00-0000-4000-8000-000000000001"
	cmd := exec.Command("mke2fs", "-q", "-t", "ext4", "-U", id, "-E", "hash_seed="+id+",root_owner=0:0",
		"-L", "strongroom", "-d", staging, path, fmt.Sprintf("%dk", size>>10))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mke2fs (package e2fsprogs) of %s: %w\n%s", path, err, out)
	}
	return nil
}

// Edit changes every step-th file of the image, counted from round: its text
// in capitals and one more line. An image so changed is one a mounted disk
// could have become.
func (d *Disk) Edit(round, step int) (changed int, err error) {
	dir, err := os.MkdirTemp("", "edit-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	var script strings.Builder
	for i := round % step; i < len(d.Files); i += step {
		if strings.ContainsAny(d.Files[i], " \t\"'") {
			continue // debugfs has no safe way to quote these
		}
		local := filepath.Join(dir, fmt.Sprint(i))
		err := d.rewrite(d.Files[i], local, round)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		fmt.Fprintf(&script, "rm %s\nwrite %s %s\n", d.Files[i], local, d.Files[i])
		changed++
	}
	return changed, d.debugfs(script.String())
}

// rewrite makes the new text of a file from the text on this machine.
func (d *Disk) rewrite(file, local string, round int) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	text = fmt.Appendf(bytes.ToUpper(text), "\nedited in round %d\n", round)
	return os.WriteFile(local, text, 0o644)
}

func (d *Disk) debugfs(script string) error {
	cmd := exec.Command("debugfs", "-w", "-f", "-", d.Path)
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	// debugfs exits 0 whatever a command of its script said.
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "No free space") || strings.Contains(line, "Could not") || strings.Contains(line, "not found") {
			err = errors.Join(err, errors.New(strings.TrimSpace(line)))
		}
	}
	if err != nil {
		return fmt.Errorf("debugfs (package e2fsprogs) on %s: %w", d.Path, err)
	}
	return nil
}

// Check runs e2fsck, which must find nothing to mend.
func Check(path string) error {
	if out, err := exec.Command("e2fsck", "-f", "-n", path).CombinedOutput(); err != nil {
		return fmt.Errorf("e2fsck of %s: %w\n%s", path, err, out)
	}
	return nil
}
