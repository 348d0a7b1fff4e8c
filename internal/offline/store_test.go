package offline

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/internal/identity"
	"github.com/strongroom-backup/strongroom/tier"
)

func TestScratch(t *testing.T) {
	w := newWorld(t)
	w.stop()
	scratch := t.TempDir()
	s, err := Open(w.dir, Options{Scratch: scratch})
	w.must(err)
	if names, err := os.ReadDir(scratch); err != nil || len(names) != 1 {
		t.Errorf("scratch holds %v, %v", names, err)
	}
	w.checkAll(s, w.points)
	w.must(s.Close())
	if names, err := os.ReadDir(scratch); err != nil || len(names) != 0 {
		t.Errorf("scratch holds %v, %v", names, err)
	}
	w.must(os.Remove(filepath.Join(w.dir, tierName, "TIER")))
	if _, err := Open(w.dir, Options{Scratch: scratch}); !errors.Is(err, tier.ErrNoTier) {
		t.Errorf("a tier without its marker: %v", err)
	}
	if names, err := os.ReadDir(scratch); err != nil || len(names) != 0 {
		t.Errorf("a failed opening left %v, %v", names, err)
	}
	if _, err := Open(w.dir, Options{Scratch: filepath.Join(scratch, "nowhere")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a scratch directory that is not there: %v", err)
	}
}

func TestNoStore(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir, Options{}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), identity.FileName) {
		t.Errorf("an empty directory: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, identity.FileName), []byte(`{"format":2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, identity.ErrNewer) {
		t.Errorf("a newer format: %v", err)
	}
	w := newWorld(t)
	w.stop()
	w.must(os.Rename(filepath.Join(w.dir, tierName, metaName), filepath.Join(w.dir, "elsewhere")))
	if _, err := Open(w.dir, Options{}); err == nil || !strings.Contains(err.Error(), "no metadata log") {
		t.Errorf("without a metadata log: %v", err)
	}
}

// hold locks a file, says so, and waits for its input to end.
func hold(path string) {
	lock, err := vfs.Default.Lock(path)
	fmt.Println(err)
	io.Copy(io.Discard, os.Stdin)
	if err == nil {
		lock.Close()
	}
	os.Exit(0)
}

// TestHolder opens a directory that another process has.
func TestHolder(t *testing.T) {
	w := newWorld(t)
	w.stop()
	path := filepath.Join(w.dir, lockName)
	if got := lockHolder(path); got != "" {
		t.Errorf("a lock that is not there is held by %s", got)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "STRONGROOM_TEST_HOLD="+path)
	in, err := cmd.StdinPipe()
	w.must(err)
	out, err := cmd.StdoutPipe()
	w.must(err)
	w.must(cmd.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "<nil>\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	s, err := Open(w.dir, Options{})
	w.must(err)
	if want := fmt.Sprintf("process %d", cmd.Process.Pid); s.Holder() != want {
		t.Errorf("held by %q, want %q", s.Holder(), want)
	}
	w.checkAll(s, w.points)
	w.must(errors.Join(s.Close(), in.Close(), cmd.Wait()))
	if got := lockHolder(path); got != "" {
		t.Errorf("a lock that was let go is held by %s", got)
	}
}
