package integration

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/qsd"
	"github.com/strongroom-backup/strongroom/internal/testdisk"
	"github.com/strongroom-backup/strongroom/server/api"
)

// The states of a disk of eight blocks by which Eric Blake explains incremental
// backups on the libvirt list (27 June 2018): a letter is a block full of it, a
// dash one that was never written. At T1 the disk is empty.
const (
	stateT2 = "AAAA----"
	stateT3 = "AAABBB--"
	stateT4 = "DAABBDD-"

	// What is backed up: S1 at T2, S2 since T2 at T3, S3 since T3 at T4, and
	// S2_3 since T2 at T4.
	backupS1  = "AAAA----"
	backupS2  = "---BBB--"
	backupS3  = "D----DD-"
	backupS23 = "D--BBDD-"
)

// letters reads a raw file of whole blocks as such a state.
func (s *scene) letters(file string) string {
	s.Helper()
	data, err := os.ReadFile(file)
	s.must(err)
	state := []byte(strings.Repeat("?", len(data)/blockSize))
	for i := range state {
		block := data[i*blockSize : (i+1)*blockSize]
		if letter := block[0]; bytes.Count(block, block[:1]) == blockSize {
			state[i] = letter
		}
	}
	return strings.ReplaceAll(string(state), "\x00", "-")
}

// stateOf is what a point's disk holds.
func (s *scene) stateOf(ref string) string {
	s.Helper()
	s.tool("qemu-img", "convert", "-f", "raw", "-O", "raw", s.srv.UnixURI(ref), s.path("state.raw"))
	return s.letters(s.path("state.raw"))
}

// partOf is what one file of a chain holds itself.
func (s *scene) partOf(file string) string {
	s.Helper()
	s.tool("qemu-img", "convert", "-O", "raw", alone(file), s.path("part.raw"))
	part := s.letters(s.path("part.raw"))
	data, zeros := s.allocated(file)
	if want := len(part) - strings.Count(part, "-"); len(data) != want || len(zeros) != 0 {
		s.Errorf("%s has blocks %v of data and %v of zeros; it reads %s", file, data, zeros, part)
	}
	return part
}

// marks are the blocks that changed between two points, as the bitmaps are drawn.
func (s *scene) marks(ref, since string, blocks int) string {
	s.Helper()
	marks := []byte(strings.Repeat("-", blocks))
	for _, b := range s.since(ref, since) {
		marks[b] = 'X'
	}
	return string(marks)
}

// becomes writes the blocks that are not dashes.
func (g *guest) becomes(change string) {
	g.s.Helper()
	for i, letter := range change {
		if letter != '-' {
			g.write(int64(i)*blockSize, bytes.Repeat([]byte{byte(letter)}, blockSize))
		}
	}
}

// TestStatesOfTheThread backs the thread's disk up as it does: a full at T2, the
// bitmap rotated at T3 and T4, and at T4 once more since T2 by both bitmaps.
func TestStatesOfTheThread(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	model := &testdisk.Disk{Path: s.path("model.raw"), Size: 8 * blockSize}
	s.must(os.WriteFile(model.Path, make([]byte, model.Size), 0o600))
	g := newGuestOf(s, "vda", "qcow2", model)
	g.becomes(backupS1)
	s1 := s.full("vm", "B2", g)
	apart := s.full("apart", "unused", g) // the same instant: nothing was written
	g.becomes(backupS2)
	s2 := s.bitmapped(g, "vm", g.rotate("B2", "B3")...)
	g.becomes(backupS3)
	s3 := s.bitmapped(g, "vm", g.rotate("B3", "B4")...)
	s23 := s.bitmapped(g, "apart", qsd.AddBitmap("vda", "B2_3", true),
		qsd.MergeBitmap("vda", "B2_3", "B2"), qsd.MergeBitmap("vda", "B2_3", "B3"),
		qsd.Backup{Job: job("vda"), Device: "vda", Target: target("vda"), Sync: "bitmap", Bitmap: "B2_3", BitmapMode: "never"}.Action())

	for _, p := range []struct {
		name, vm    string
		r           api.Receipt
		state, part string
	}{
		{"S1", "vm", s1, stateT2, backupS1}, {"S2", "vm", s2, stateT3, backupS2}, {"S3", "vm", s3, stateT4, backupS3},
		{"S1 once more", "apart", apart, stateT2, backupS1}, {"S2_3", "apart", s23, stateT4, backupS23},
	} {
		if got := s.stateOf(p.vm + "/vda@" + p.r.Point); got != p.state {
			t.Errorf("after %s the guest sees |%s|, want |%s|", p.name, got, p.state)
		}
		sent := int64(len(p.part)-strings.Count(p.part, "-")) * blockSize
		if i := image(s, p.r, "vda"); i.WrittenBytes != sent {
			t.Errorf("%s took %d bytes, want %d: |%s|", p.name, i.WrittenBytes, sent, p.part)
		}
	}
	for _, m := range []struct{ at, since, marks string }{
		{s2.Point, s1.Point, "---XXX--"}, {s3.Point, s2.Point, "X----XX-"}, {s3.Point, s1.Point, "X--XXXX-"},
	} {
		if got := s.marks("vm/vda@"+m.at, m.since, 8); got != m.marks {
			t.Errorf("since %s the bitmap is |%s|, want |%s|", m.since, got, m.marks)
		}
	}
	s.chainOf("vm", s3, backupS1, backupS2, backupS3)
	s.chainOf("apart", s23, backupS1, backupS23)

	// S2 merged into S3 is S2_3.
	_, err := s.srv.Run(s.ctx, "chain", "merge", "vm/vda", "--from", s2.Point, "--into", s3.Point, "--yes")
	s.must(err)
	s.chainOf("vm", s3, backupS1, backupS23)
	if n := s.points("vm"); n != 2 {
		t.Errorf("%d points after S2 was merged away", n)
	}
}

// bitmapped backs a guest's disk up incrementally by the given steps.
func (s *scene) bitmapped(g *guest, vm string, steps ...qsd.Action) api.Receipt {
	s.Helper()
	b := s.start(vm, []*guest{g}, "--mode", "incremental")
	s.connect(b)
	s.must(s.qsd.Transaction(s.ctx, steps...), s.qsd.Wait(s.ctx, job(g.node)))
	s.disconnect(b)
	return s.commit(b)
}

// chainOf restores a point that is in state T4 as a chain, of whose files each
// holds the given blocks and no others.
func (s *scene) chainOf(vm string, r api.Receipt, parts ...string) {
	s.Helper()
	dir := s.path(fmt.Sprintf("chain-%s-%d", vm, len(parts)))
	_, err := s.srv.Run(s.ctx, "restore", vm+"/vda@"+r.Point, "--format", "qcow2", "--chain", dir, "--verify")
	s.must(err)
	files, err := filepath.Glob(filepath.Join(dir, "*.qcow2"))
	s.must(err)
	if len(files) != len(parts) {
		s.Fatalf("the chain of %s is %v, want %d files", vm, files, len(parts))
	}
	for i, part := range parts {
		if got := s.partOf(files[i]); got != part {
			s.Errorf("file %d of the chain of %s holds |%s|, want |%s|", i, vm, got, part)
		}
	}
	last := files[len(files)-1]
	s.tool("qemu-img", "convert", "-f", "qcow2", "-O", "raw", last, s.path("chain.raw"))
	if got := s.letters(s.path("chain.raw")); got != stateT4 {
		s.Errorf("the chain of %s opens as |%s|, want |%s|", vm, got, stateT4)
	}
	s.same(vm, "vda", r.Point, s.path("chain.raw"))
}
