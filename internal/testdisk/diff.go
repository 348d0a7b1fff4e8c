package testdisk

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
)

const (
	page   = 4 << 10   // the smallest write a file system makes
	window = 256 << 10 // the most one yield of Diff carries, in bytes
)

// Diff calls yield with each run of 4 KiB pages of the file now that are not
// the same in the file before: what a guest wrote between the two. data is
// valid during the call. A longer file's tail counts as changed from zeros.
func Diff(before, now string, yield func(off int64, data []byte) error) error {
	b, err := os.Open(before)
	if err != nil {
		return err
	}
	defer b.Close()
	n, err := os.Open(now)
	if err != nil {
		return err
	}
	defer n.Close()
	oldBuf, newBuf := make([]byte, window), make([]byte, window)
	for off := int64(0); ; off += window {
		k, err := io.ReadFull(n, newBuf)
		if k == 0 && err == io.EOF {
			return nil
		}
		if err != nil && err != io.ErrUnexpectedEOF {
			return err
		}
		clear(oldBuf)
		if _, err := b.ReadAt(oldBuf[:k], off); err != nil && err != io.EOF {
			return err
		}
		if err := diffWindow(oldBuf[:k], newBuf[:k], off, yield); err != nil {
			return err
		}
	}
}

func diffWindow(old, now []byte, off int64, yield func(int64, []byte) error) error {
	if bytes.Equal(old, now) {
		return nil
	}
	start := -1
	for i := 0; i < len(now); i += page {
		end := min(i+page, len(now))
		same := bytes.Equal(old[i:end], now[i:end])
		if !same && start < 0 {
			start = i
		}
		if same && start >= 0 {
			if err := yield(off+int64(start), now[start:i]); err != nil {
				return err
			}
			start = -1
		}
	}
	if start < 0 {
		return nil
	}
	return yield(off+int64(start), now[start:])
}

// Copy copies an image and keeps its holes.
func Copy(from, to string) error {
	out, err := exec.Command("cp", "--sparse=always", "--reflink=auto", from, to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("copy %s to %s: %w\n%s", from, to, err, out)
	}
	return nil
}

// Equal says where two files of one size first differ; nil when they do not.
func Equal(a, b string) error {
	infoA, err := os.Stat(a)
	if err != nil {
		return err
	}
	infoB, err := os.Stat(b)
	if err != nil {
		return err
	}
	if infoA.Size() != infoB.Size() {
		return fmt.Errorf("%s has %d bytes, %s has %d", a, infoA.Size(), b, infoB.Size())
	}
	return Diff(a, b, func(off int64, _ []byte) error {
		return fmt.Errorf("%s and %s differ in the page at byte %d", a, b, off)
	})
}
