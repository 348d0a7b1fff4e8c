package volume

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/dedup"
)

// rotten is a world with an open session that has written blocks and parts.
func rotten(t *testing.T) (w *world, st Status) {
	t.Helper()
	w = newWorld(t)
	st, err := w.m.Start(StartRequest{VM: "vm", Disks: []DiskSpec{{"vda", 20 * dedup.BlockSize}, {"vdb", 20 * dedup.BlockSize}}, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range st.Disks {
		x := w.export(d.Token)
		for j := range int64(4) {
			w.put(x, bytes.Repeat([]byte{byte(1 + i), byte(1 + j)}, dedup.BlockSize/2), j*dedup.BlockSize)
			w.put(x, bytes.Repeat([]byte{byte(9 + j)}, 700), j*dedup.BlockSize+3000)
		}
		x.Close()
	}
	return w, st
}

func (w *world) export(token string) *Disk {
	w.t.Helper()
	x, err := w.m.OpenExport(token)
	if err != nil {
		w.t.Fatal(err)
	}
	return x
}

func (w *world) put(x *Disk, p []byte, off int64) {
	w.t.Helper()
	if _, err := x.WriteAt(p, off); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) pathOf(st Status, name string) string {
	return "data/sessions/" + st.Session + "/" + name
}

// spoil changes a file between two processes.
func (w *world) spoil(name string, change func([]byte) []byte) {
	w.t.Helper()
	f, err := w.fs.Open(name)
	if err != nil {
		w.t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	f.Close()
	if err != nil {
		w.t.Fatal(err)
	}
	g, err := w.fs.Create(name, vfs.WriteCategoryUnspecified)
	if err == nil {
		_, err = g.Write(change(b))
		g.Close()
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// records are where the records of a journal begin, and where the last ends.
func records(t *testing.T, b []byte) (at []int) {
	t.Helper()
	j := &journal{seed: 0, end: journalHeaderSize}
	for j.end < int64(len(b)) {
		at = append(at, int(j.end))
		j.end += recordHeaderSize + int64(b[j.end]) + int64(b[j.end+1])<<8 + recordTrailerSize
	}
	return append(at, len(b))
}

// TestDamagedJournalsKill: a session of which acknowledged writes were lost to
// damage does not go on.
func TestDamagedJournalsKill(t *testing.T) {
	for name, change := range map[string]func([]byte, []int) []byte{
		"a bit in the middle":       func(b []byte, at []int) []byte { b[at[3]+30] ^= 4; return b },
		"a bit of the last record":  func(b []byte, at []int) []byte { b[at[len(at)-2]+20] ^= 1; return b },
		"the last record's length":  func(b []byte, at []int) []byte { b[at[len(at)-2]+1] ^= 8; return b },
		"the last record's number":  func(b []byte, at []int) []byte { b[at[len(at)-2]+8] ^= 1; return b },
		"cut inside a record":       func(b []byte, at []int) []byte { return b[:at[len(at)-2]+21] },
		"a record twice":            func(b []byte, at []int) []byte { return append(b[:at[4]:at[4]], b[at[3]:]...) },
		"bytes behind it":           func(b []byte, at []int) []byte { return append(b, 1) },
		"a hole in the middle":      func(b []byte, at []int) []byte { clear(b[at[2]:at[3]]); return b },
		"nothing but the header":    func(b []byte, at []int) []byte { return append(b[:journalHeaderSize], 7) },
		"a sector of zeros at last": func(b []byte, at []int) []byte { clear(b[len(b)-300:]); return b },
	} {
		t.Run(name, func(t *testing.T) {
			w, st := rotten(t)
			w.kill()
			w.spoil(w.pathOf(st, "vda.journal"), func(b []byte) []byte { return change(b, records(t, b)) })
			w.start()
			if got, err := w.m.Status(st.Session); err != nil || got.State != Dead || !strings.Contains(got.Reason, "vda") {
				t.Fatalf("the session is %s (%s), %v", got.State, got.Reason, err)
			}
		})
	}
}

// TestTornJournalsLive: what a kill leaves of a write that nobody was answered
// is no damage.
func TestTornJournalsLive(t *testing.T) {
	w, st := rotten(t)
	x := w.export(st.Disks[0].Token)
	for i := range int64(10) { // long records, so that one crosses pages
		w.put(x, bytes.Repeat([]byte{7}, 6000), 10*dedup.BlockSize+i*6000)
	}
	x.Close()
	w.kill()
	w.spoil(w.pathOf(st, "vda.journal"), func(b []byte) []byte {
		at := records(t, b)
		last := at[len(at)-2]
		page := (last/pageBytes + 1) * pageBytes
		return b[:page]
	})
	w.start()
	if got, err := w.m.Status(st.Session); err != nil || got.State != Open {
		t.Fatalf("the session is %s (%s), %v", got.State, got.Reason, err)
	}
}

// TestLostEnds: after a shutdown the journals are as long as they were.
func TestLostEnds(t *testing.T) {
	for name, back := range map[string]int{"a record": 2, "all records": 0} {
		t.Run(name, func(t *testing.T) {
			w, st := rotten(t)
			w.stop()
			w.spoil(w.pathOf(st, "vdb.journal"), func(b []byte) []byte {
				at := records(t, b)
				if back == 0 {
					return b[:journalHeaderSize]
				}
				return b[:at[len(at)-back]]
			})
			w.start()
			if got, _ := w.m.Status(st.Session); got.State != Dead || !strings.Contains(got.Reason, "records of") {
				t.Fatalf("the session is %s (%s)", got.State, got.Reason)
			}
		})
	}
}

// TestLaterMark: after a restart of the host, a clean mark behind a place that
// is not valid says that what was there had been synced.
func TestLaterMark(t *testing.T) {
	w, st := rotten(t)
	x := w.export(st.Disks[0].Token)
	for range 2 {
		if err := x.Flush(); err != nil {
			t.Fatal(err)
		}
		w.put(x, make([]byte, 600), 5000)
	}
	if err := x.Flush(); err != nil {
		t.Fatal(err)
	}
	x.Close()
	w.kill()
	w.boot = "boot-2"
	w.spoil(w.pathOf(st, "vda.journal"), func(b []byte) []byte {
		at := records(t, b)
		for i := range at[:len(at)-1] {
			if recordType(b[at[i]+4]) == recClean { // the record behind the first mark
				b[at[i+1]+17] ^= 1
				return b
			}
		}
		t.Fatal("no mark")
		return nil
	})
	w.start()
	if got, _ := w.m.Status(st.Session); got.State != Dead || !strings.Contains(got.Reason, "a flush was acknowledged") {
		t.Fatalf("the session is %s (%s)", got.State, got.Reason)
	}
}

// TestSwappedJournals: disks of one size have each its own journal.
func TestSwappedJournals(t *testing.T) {
	w, st := rotten(t)
	w.kill()
	var a []byte
	w.spoil(w.pathOf(st, "vda.journal"), func(b []byte) []byte { a = bytes.Clone(b); return b })
	w.spoil(w.pathOf(st, "vdb.journal"), func([]byte) []byte { return a })
	w.start()
	if got, _ := w.m.Status(st.Session); got.State != Dead || !strings.Contains(got.Reason, "it is not that of") {
		t.Fatalf("the session is %s (%s)", got.State, got.Reason)
	}
}

// TestLostSessionFile: without session.json, journals that have records are
// kept and the session is dead.
func TestLostSessionFile(t *testing.T) {
	w, st := rotten(t)
	w.kill()
	if err := w.fs.Remove(w.pathOf(st, "session.json")); err != nil {
		t.Fatal(err)
	}
	w.start()
	if got, err := w.m.Status(st.Session); err != nil || got.State != Dead || !strings.Contains(got.Reason, "is missing") {
		t.Fatalf("the session is %s (%s), %v", got.State, got.Reason, err)
	}
	if _, err := w.fs.Stat(w.pathOf(st, "vda.journal")); err != nil {
		t.Errorf("its journals are gone: %v", err)
	}
	if err := w.m.Abort(st.Session); err != nil {
		t.Errorf("abort: %v", err)
	}
}

// TestSessionFileChecksum flips every bit of a session.json.
func TestSessionFileChecksum(t *testing.T) {
	w, st := rotten(t)
	f, err := w.m.loadSessionFile(st.Session)
	if err != nil {
		t.Fatal(err)
	}
	data, err := encodeSessionFile(f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodeSessionFile(st.Session, data); err != nil {
		t.Fatal(err)
	}
	for i := range 8 * len(data) {
		data[i/8] ^= 1 << (i % 8)
		if _, err := decodeSessionFile(st.Session, data); err == nil {
			t.Fatalf("bit %d of byte %d flipped: accepted: %s", i%8, i/8, data)
		}
		data[i/8] ^= 1 << (i % 8)
	}
	old := strings.Replace(string(data[:len(data)-sumLen])+"}", `"format":2`, `"format":1`, 1)
	if _, err := decodeSessionFile(st.Session, []byte(old)); err != nil {
		t.Errorf("a file of format 1: %v", err)
	}
}

// TestRawExtentsAreVerified: bytes of a client that rot in a journal are neither
// served nor committed.
func TestRawExtentsAreVerified(t *testing.T) {
	w, st := rotten(t)
	name := w.pathOf(st, "vda.journal")
	f, err := w.fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range records(t, b)[:len(records(t, b))-1] {
		if recordType(b[at+4]) == recRaw {
			if _, err := f.WriteAt([]byte{b[at+400] ^ 1}, int64(at+400)); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.Close()
	x := w.export(st.Disks[0].Token)
	if _, err := x.ReadAt(make([]byte, dedup.BlockSize), 0); err == nil || !strings.Contains(err.Error(), "damaged at byte") {
		t.Errorf("read: %v", err)
	}
	x.Close()
	if _, err := w.m.Commit(st.Session); err == nil || !strings.Contains(err.Error(), "damaged at byte") {
		t.Errorf("commit: %v", err)
	}
}

// TestFailedWritesLeaveNothing: a record that a full disk cut short is no damage
// after a restart.
func TestFailedWritesLeaveNothing(t *testing.T) {
	fs := &shortFS{FS: vfs.NewMem()}
	j, err := createJournal(fs, "j", "a disk", testDiskSize, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.mark(recDirty); err != nil {
		t.Fatal(err)
	}
	fs.fail = 1
	if _, err := j.appendRaw(0, bytes.Repeat([]byte{5}, 900)); err == nil {
		t.Fatal("no error")
	}
	_, k := readAll(t, fs)
	if err := k.checkEnd(true, 0); err != nil {
		t.Errorf("after the failure: %v", err)
	}
	fs.fail = 2 // the clearing fails too
	if _, err := j.appendRaw(0, bytes.Repeat([]byte{5}, 900)); err == nil {
		t.Fatal("no error")
	}
	if err := j.mark(recClean); err != nil {
		t.Fatal(err)
	}
	types, k := readAll(t, fs)
	if err := k.checkEnd(true, 0); err != nil || len(types) != 2 {
		t.Errorf("after the next record: %v, %v", types, err)
	}
}

// shortFS lets the next writes of files put half of their bytes.
type shortFS struct {
	vfs.FS
	fail int
}

func (f *shortFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	x, err := f.FS.OpenReadWrite(name, c, o...)
	return &shortFile{x, f}, err
}

type shortFile struct {
	vfs.File
	fs *shortFS
}

func (f *shortFile) WriteAt(p []byte, off int64) (int, error) {
	if f.fs.fail == 0 {
		return f.File.WriteAt(p, off)
	}
	f.fs.fail--
	n, _ := f.File.WriteAt(p[:len(p)/2], off)
	return n, io.ErrShortWrite
}
