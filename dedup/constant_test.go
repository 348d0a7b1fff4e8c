package dedup

import (
	"bytes"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/tier"
)

// TestConstantBlocks reads back the blocks that compress to the fewest bytes.
func TestConstantBlocks(t *testing.T) {
	fs := vfs.NewMem()
	ts, err := tier.CreateDir(fs, "tier0", [16]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(Options{FS: fs, Dir: "index", Tier: ts})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w := s.NewWriter()
	defer w.Close()
	for n := 1; n <= FrameBlocks; n++ {
		var data []byte
		for i := range n {
			data = append(data, bytes.Repeat([]byte{byte(16*n + i)}, BlockSize)...)
		}
		addrs, got := make([]Addr, n), make([]byte, len(data))
		if _, err := w.Put(data, nil, addrs); err != nil {
			t.Fatal(err)
		}
		if err := s.Read(addrs, got); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d blocks: %v", n, err)
		}
		if err := s.Read(addrs[:1], got[:BlockSize]); err != nil || !bytes.Equal(got[:BlockSize], data[:BlockSize]) {
			t.Errorf("the first of %d blocks: %v", n, err)
		}
	}
}
