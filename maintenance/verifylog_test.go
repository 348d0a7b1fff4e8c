package maintenance

import (
	"context"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/volume"
)

// TestVerifyReadsTheLog: damage in the metadata log, which only a rebuild would
// meet, is found by a verification of everything, and by a scrub once a day.
func TestVerifyReadsTheLog(t *testing.T) {
	w := newWorld(t, Config{})
	w.backup(volume.StartRequest{VM: "vm"}, 4*block, put{0, noise(2*block, 1)})
	ctx := context.Background()
	if _, err := w.e.Verify(ctx, VerifyRequest{}); err != nil {
		t.Fatal(err)
	}
	names, err := w.fs.List("data/tier0/meta")
	w.must(err)
	f, err := w.fs.OpenReadWrite("data/tier0/meta/"+names[0], vfs.WriteCategoryUnspecified)
	w.must(err)
	_, err = f.WriteAt([]byte{0xff, 0xff}, 150)
	w.must(errors.Join(err, f.Close()))
	since := VerifyRequest{OlderThan: 1}
	if _, err := w.e.Verify(ctx, since); err != nil {
		t.Errorf("the same day, of what is due: %v", err)
	}
	if _, err := w.e.Verify(ctx, VerifyRequest{}); !errors.Is(err, catalog.ErrCorrupt) {
		t.Errorf("everything: %v", err)
	}
	w.pass(logEvery)
	if _, err := w.e.Verify(ctx, since); !errors.Is(err, catalog.ErrCorrupt) {
		t.Errorf("the next day, of what is due: %v", err)
	}
	if _, err := w.e.Verify(ctx, VerifyRequest{Ref: "vm"}); err != nil {
		t.Errorf("of one VM: %v", err)
	}
}
