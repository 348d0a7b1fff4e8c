package dedup

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/tier"
)

func TestSmoke(t *testing.T) {
	fs := vfs.NewMem()
	ts, err := tier.CreateDir(fs, "tier0", [16]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{FS: fs, Dir: "index", Tier: ts, PackSize: 1 << 20}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 100*BlockSize)
	for i := range data {
		if i/BlockSize%3 != 0 {
			data[i] = byte(rng.Uint32() & 15)
		}
		if i/BlockSize%10 == 1 {
			data[i] = byte(rng.Uint32())
		}
	}
	addrs := make([]Addr, 100)
	w := s.NewWriter()
	r, err := w.Put(data, nil, addrs)
	t.Log(r, err)
	if err := w.Sync(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(data))
	if err := s.Read(addrs, got); err != nil || !bytes.Equal(got, data) {
		t.Fatal(err, bytes.Equal(got, data))
	}
	a2 := make([]Addr, 100)
	r, err = w.Put(data, nil, a2)
	t.Log(r, err)
	w.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(o); err != nil {
		t.Fatal(err)
	}
	w = s.NewWriter()
	r, err = w.Put(data, nil, a2)
	t.Log(r, err)
	r, err = w.Put(data, addrs, a2)
	t.Log(r, err)
	clear(got)
	if err := s.Read(addrs, got); err != nil || !bytes.Equal(got, data) {
		t.Fatal(err, bytes.Equal(got, data))
	}
	w.Close()
	t.Logf("%+v", s.Stats())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
