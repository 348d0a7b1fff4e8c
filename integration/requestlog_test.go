package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/qsd"
)

// extent is data on an otherwise empty disk.
type extent struct{ off, length int64 }

// scattered makes a raw disk of size bytes with data from real files at the
// given places.
func (s *scene) scattered(name string, size int64, data ...extent) string {
	s.Helper()
	source, err := os.ReadFile(base.Path)
	s.must(err)
	path := s.path(name)
	f, err := os.Create(path)
	s.must(err)
	defer f.Close()
	s.must(f.Truncate(size))
	at := int64(0)
	for _, e := range data {
		part := bytes.Clone(source[at : at+e.length])
		for i := 0; i < len(part); i += 4096 { // no page of zeros, which would be a hole to some
			part[i] |= 1
		}
		_, err := f.WriteAt(part, e.off)
		s.must(err)
		at += e.length
	}
	return path
}

// throughLog puts nbdkit's logging proxy before an export and returns its
// socket and the log's path.
func (s *scene) throughLog(name, export string) (socket, log string) {
	s.Helper()
	socket, log = s.path(name+".sock"), s.path(name+".log")
	s.background(socket, "nbdkit", "--foreground", "--unix", socket, "--filter=log", "nbd",
		"uri="+s.srv.UnixURI(export), "logfile="+log)
	return socket, log
}

var logLine = regexp.MustCompile(`connection=\d+ (Write|Zero|Trim|Flush) id=\d+(?: offset=0x([0-9a-f]+) count=0x([0-9a-f]+))?`)

// requests counts a log's requests by kind and length.
func (s *scene) requests(log string) map[string]int {
	s.Helper()
	text, err := os.ReadFile(log)
	s.must(err)
	got := map[string]int{}
	for _, m := range logLine.FindAllStringSubmatch(string(text), -1) {
		key := m[1]
		if m[3] != "" {
			n, err := strconv.ParseInt(m[3], 16, 64)
			s.must(err)
			key += fmt.Sprintf(" %dK", n>>10)
		}
		got[key]++
	}
	return got
}

// TestRequestLog backs a 256 MiB disk with 23 MiB and two odd pieces of data up,
// then three small changes, and counts what QEMU sends. The counts are those
// QEMU sends to any server of our block sizes; a change of ours that made it
// send more would show here.
func TestRequestLog(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	const mib = 1 << 20
	const size = 256 * mib
	disk := s.scattered("disk.raw", size,
		extent{0, 64 << 10}, extent{10 * mib, 23 * mib}, extent{100*mib - 64<<10, 128 << 10})
	s.must(s.qsd.AddDisk(s.ctx, "vda", disk, "raw"))
	g := &guest{s: s, node: "vda"}

	b, err := s.srv.StartBackup(s.ctx, "vm", "--disk", fmt.Sprintf("vda=%d", size))
	s.must(err)
	socket, log := s.throughLog("full", b.Disks[0].Export)
	s.must(s.qsd.AddTarget(s.ctx, qsd.Target{Node: target("vda"), Unix: socket}))
	s.must(s.qsd.Transaction(s.ctx, qsd.AddBitmap("vda", "b0", false), g.copyAll()), s.qsd.Wait(s.ctx, job("vda")))
	s.disconnect(b)
	r := s.commit(b)
	want := map[string]int{"Write 1024K": 23, "Write 128K": 1, "Write 64K": 1, "Zero 1024K": 230, "Zero 960K": 3, "Flush": 1}
	if got := s.requests(log); !maps.Equal(got, want) {
		t.Errorf("full: %v, want %v", got, want)
	}
	if i := image(s, r, "vda"); i.WrittenBytes != 23*mib+192<<10 || i.WrittenBytes+i.ZeroedBytes != size || i.NewBytes > i.WrittenBytes {
		t.Errorf("full: %+v", i)
	}
	s.onlyDataIsStored(image(s, r, "vda").StoredBytes)
	s.mapped(r.Point, disk)

	g.connect()
	for _, e := range []extent{{40 * mib, 4 << 10}, {50 * mib, 64 << 10}} {
		_, err := g.disk.WriteAt(bytes.Repeat([]byte{7}, int(e.length)), e.off)
		s.must(err)
	}
	s.must(g.disk.Zero(12*mib, 128<<10))
	b, err = s.srv.StartBackup(s.ctx, "vm", "--disk", fmt.Sprintf("vda=%d", size), "--mode", "incremental")
	s.must(err)
	socket, log = s.throughLog("inc", b.Disks[0].Export)
	s.must(s.qsd.AddTarget(s.ctx, qsd.Target{Node: target("vda"), Unix: socket}))
	s.must(s.qsd.Transaction(s.ctx, g.copyDirty("b0")), s.qsd.Wait(s.ctx, job("vda")))
	s.disconnect(b)
	r = s.commit(b)
	want = map[string]int{"Write 64K": 2, "Zero 128K": 1, "Flush": 1}
	if got := s.requests(log); !maps.Equal(got, want) {
		t.Errorf("incremental: %v, want %v", got, want)
	}
	s.same("vm", "vda", r.Point, disk)
	s.mapped(r.Point, disk)
}

// onlyDataIsStored checks that the packs hold no more than what was stored for
// the data, with their tables and headers: holes take nothing.
func (s *scene) onlyDataIsStored(stored int64) {
	s.Helper()
	var packs int64
	s.must(filepath.Walk(filepath.Join(s.srv.Data, "tier0", "packs"), func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			packs += info.Size()
		}
		return err
	}))
	if limit := stored + stored/20 + 256<<10; packs == 0 || packs > limit {
		s.Errorf("packs take %d bytes for %d stored", packs, stored)
	}
}

// mapped checks that nbdinfo --map of a point shows the holes and the data of
// the raw disk, block by block.
func (s *scene) mapped(point, disk string) {
	s.Helper()
	var extents []struct {
		Offset, Length int64
		Type           int // 0 data, 3 hole and zero
	}
	s.must(json.Unmarshal([]byte(s.tool("nbdinfo", "--map", "--json", s.srv.UnixURI("vm/vda@"+point))), &extents))
	content, err := os.ReadFile(disk)
	s.must(err)
	zeros := make([]byte, qsd.Granularity)
	end := int64(0)
	for i, e := range extents {
		if e.Offset != end || e.Length%qsd.Granularity != 0 || (i > 0 && e.Type == extents[i-1].Type) {
			s.Fatalf("map: extent %+v after byte %d", e, end)
		}
		end += e.Length
		for off := e.Offset; off < end; off += qsd.Granularity {
			if hole := bytes.Equal(content[off:off+qsd.Granularity], zeros); hole != (e.Type == 3) {
				s.Fatalf("map: extent %+v, but the block at %d is zeros: %v", e, off, hole)
			}
		}
	}
	if end != int64(len(content)) {
		s.Errorf("map: ends at %d of %d", end, len(content))
	}
}
