package dedup

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
	"github.com/strongroom-backup/strongroom/tier"
)

// TestCloseOnDeadDisk: Pebble would try to flush the index for ever.
func TestCloseOnDeadDisk(t *testing.T) {
	fs := crashfs.New()
	ts, err := tier.CreateDir(fs, "/tier0", [16]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(Options{FS: fs, Dir: "/index", Tier: ts})
	if err != nil {
		t.Fatal(err)
	}
	fs.Inject(&crashfs.Fault{Err: syscall.EROFS, Sticky: true})
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	select {
	case err := <-closed:
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("closed with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Close hangs")
	}
}
