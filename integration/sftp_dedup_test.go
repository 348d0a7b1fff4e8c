package integration

import (
	"path/filepath"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/testdisk"
)

// settledBytes are the bytes of the store's packs, once everything in them is
// compressed.
func (s *scene) settledBytes() int64 {
	s.Helper()
	_, err := s.srv.Run(s.ctx, "compress", "--wait")
	s.must(err)
	st, err := s.srv.Stats(s.ctx)
	s.must(err)
	return st.StoredBytes
}

// TestFileIsWorthTheSame backs one disk of real files up by NBD, then as a
// qcow2 and as a raw file by sshfs: the images are the same, and the store
// hardly grows.
func TestFileIsWorthTheSame(t *testing.T) {
	t.Parallel()
	s := newFileScene(t)
	g := newGuest(s, "vda", "raw")
	byNBD := image(s, s.full("nbd", "b0", g), "vda")
	before := s.settledBytes()

	d := s.drop("qcow2")
	g.fullToFile(filepath.Join(d.mount(), "vda.qcow2"), "qcow2", "b1")
	asQcow2 := image(s, d.commit("vda"), "vda")
	after := s.settledBytes()
	t.Logf("NBD: %d bytes stored; the qcow2 added %d (%.2f %%)", before, after-before, 100*float64(after-before)/float64(before))
	if after-before > before/100 {
		t.Errorf("the qcow2 added %d bytes to %d", after-before, before)
	}

	d = s.drop("raw")
	s.must(testdisk.Copy(base.Path, filepath.Join(d.mount(), "vda.raw")))
	asRaw := image(s, d.commit("vda"), "vda")
	if last := s.settledBytes(); last-after > before/1000 {
		t.Errorf("the raw file added %d bytes to %d", last-after, after)
	}
	if byNBD.Root != asQcow2.Root || byNBD.Root != asRaw.Root || byNBD.Size != asQcow2.Size {
		t.Errorf("the images differ:\nNBD   %+v\nqcow2 %+v\nraw   %+v", byNBD, asQcow2, asRaw)
	}
	if asQcow2.NewBytes != 0 || asRaw.NewBytes != 0 {
		t.Errorf("new bytes: %d in the qcow2's image, %d in the raw file's", asQcow2.NewBytes, asRaw.NewBytes)
	}
}
