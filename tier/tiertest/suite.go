// Package tiertest is the conformance suite of tier.Store: every
// implementation and wrapper runs it.
package tiertest

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/strongroom-backup/strongroom/tier"
)

// Run tests a Store. open returns the same tier each time it is called within
// one test, empty at first; the suite calls it again to see what a restart
// finds.
func Run(t *testing.T, open func(t *testing.T) func() tier.Store) {
	for name, test := range map[string]func(*testing.T, func() tier.Store){
		"create-read-reopen": createReadReopen,
		"names":              names,
		"missing":            missing,
		"remove":             remove,
		"notes":              notes,
		"concurrent":         concurrent,
		"usage":              usage,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

func createReadReopen(t *testing.T, open func() tier.Store) {
	s, id := open(), tier.ID{Pack: 7, Gen: 1}
	f, err := s.Create(id)
	must(t, err)
	_, err = f.WriteAt([]byte("hello "), 0)
	must(t, err)
	reader, err := s.Open(id)
	must(t, err)
	checkContent(t, reader, "hello ")
	_, err = f.WriteAt([]byte("world"), 6)
	must(t, err)
	must(t, f.Sync())
	checkContent(t, reader, "hello world")
	must(t, errors.Join(f.Close(), reader.Close()))

	s = open()
	again, err := s.Reopen(id)
	must(t, err)
	_, err = again.WriteAt([]byte("!"), 11)
	must(t, err)
	must(t, again.Sync())
	checkContent(t, again, "hello world!")
	must(t, again.Close())
	_, err = s.Create(id)
	wantErr(t, err, tier.ErrExists)
}

func checkContent(t *testing.T, f tier.File, want string) {
	t.Helper()
	size, err := f.Size()
	must(t, err)
	if size != int64(len(want)) {
		t.Fatalf("size %d, want %d", size, len(want))
	}
	got := make([]byte, len(want))
	_, err = f.ReadAt(got, 0)
	must(t, err)
	if string(got) != want {
		t.Fatalf("content %q, want %q", got, want)
	}
}

// boundaryIDs lie where a name changes its directory or its length.
var boundaryIDs = []tier.ID{
	{Pack: 1}, {Pack: 4095}, {Pack: 4096}, {Pack: 4097}, {Pack: 4096, Gen: 1},
	{Pack: tier.MaxPack}, {Pack: tier.MaxPack, Gen: 1<<32 - 1},
}

func compareIDs(a, b tier.ID) int {
	if a.Pack != b.Pack {
		return int(int64(a.Pack) - int64(b.Pack))
	}
	return int(int64(a.Gen) - int64(b.Gen))
}

func names(t *testing.T, open func() tier.Store) {
	s := open()
	for _, id := range boundaryIDs {
		f, err := s.Create(id)
		must(t, err)
		must(t, f.Close())
	}
	got, err := open().List()
	must(t, err)
	want := slices.Clone(boundaryIDs)
	slices.SortFunc(got, compareIDs)
	slices.SortFunc(want, compareIDs)
	if !slices.Equal(got, want) {
		t.Fatalf("listed %v, want %v", got, want)
	}
}

func missing(t *testing.T, open func() tier.Store) {
	s, id := open(), tier.ID{Pack: 1}
	_, err := s.Open(id)
	wantErr(t, err, tier.ErrNotFound)
	_, err = s.Reopen(id)
	wantErr(t, err, tier.ErrNotFound)
	wantErr(t, s.Remove(id), tier.ErrNotFound)
	_, err = s.Note(id)
	wantErr(t, err, tier.ErrNotFound)
	if ids, err := s.List(); err != nil || len(ids) != 0 {
		t.Fatalf("an empty tier lists %v, %v", ids, err)
	}
}

func remove(t *testing.T, open func() tier.Store) {
	s, id := open(), tier.ID{Pack: 3}
	f, err := s.Create(id)
	must(t, err)
	_, err = f.WriteAt([]byte("x"), 0)
	must(t, err)
	must(t, s.SetNote(id, []byte("note")))
	must(t, s.Remove(id))
	checkContent(t, f, "x") // a reader that has it open goes on
	must(t, f.Close())
	s = open()
	_, err = s.Open(id)
	wantErr(t, err, tier.ErrNotFound)
	_, err = s.Note(id)
	wantErr(t, err, tier.ErrNotFound)
}

func notes(t *testing.T, open func() tier.Store) {
	s, id := open(), tier.ID{Pack: 3}
	f, err := s.Create(id)
	must(t, err)
	must(t, f.Close())
	for _, n := range []int{0, 1, tier.MaxNote - 1, tier.MaxNote} {
		note := bytes.Repeat([]byte{'n'}, n)
		must(t, s.SetNote(id, note))
		got, err := open().Note(id)
		must(t, err)
		if !bytes.Equal(got, note) {
			t.Fatalf("note of %d bytes came back as %d", n, len(got))
		}
	}
	if err := s.SetNote(id, make([]byte, tier.MaxNote+1)); err == nil {
		t.Fatal("a note over the limit was taken")
	}
	if ids, err := s.List(); err != nil || len(ids) != 1 {
		t.Fatalf("with a note the tier lists %v, %v", ids, err)
	}
}

func concurrent(t *testing.T, open func() tier.Store) {
	s := open()
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			f, err := s.Create(tier.ID{Pack: uint64(i)*2048 + 1})
			if err != nil {
				t.Error(err)
				return
			}
			_, err = f.WriteAt([]byte{byte(i)}, 0)
			if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if ids, err := open().List(); err != nil || len(ids) != 16 {
		t.Fatalf("listed %d packs, %v; want 16", len(ids), err)
	}
}

func usage(t *testing.T, open func() tier.Store) {
	u, err := open().Usage()
	if errors.Is(err, tier.ErrUsageUnknown) {
		return
	}
	must(t, err)
	if u.Total == 0 || u.Free > u.Total {
		t.Fatalf("usage makes no sense: %+v", u)
	}
}
