package dedup

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
)

// aged stores 32 blocks together, then every third of them anew, one by one, as
// incrementals do. The addresses are those of the disk afterwards.
func aged(t *testing.T, s *Store) (addrs []Addr, data []byte) {
	t.Helper()
	w := s.NewWriter()
	defer w.Close()
	data = blocks(count(1, 32)...)
	addrs, _ = mustPut(t, w, data, nil)
	for i := 1; i < 32; i += 3 {
		one := block(uint64(1000 + 3*i)) // of the same kind
		again, _ := mustPut(t, w, one, nil)
		addrs[i] = again[0]
		copy(data[i*BlockSize:], one)
	}
	addrs[20] = 0
	clear(data[20*BlockSize:][:BlockSize])
	return addrs, data
}

// Any part of any window reads right, by any number of cores, and no byte beside
// what was asked for is touched.
func TestReadWithin(t *testing.T) {
	s, _ := newStoreTest(t)
	addrs, data := aged(t, s)
	for _, seed := range seeds(3) {
		rng := newRNG(seed)
		for range 60 {
			s.cores = 1 + rng.IntN(4)
			order := rng.Perm(len(addrs))
			if rng.IntN(2) == 0 {
				slices.Sort(order)
			}
			if rng.IntN(4) == 0 {
				order[3], order[9] = order[10], order[10] // the same block again
			}
			if rng.IntN(8) == 0 {
				s.frames.clear()
			}
			from := rng.IntN(len(order))
			to := from + rng.IntN(len(order)-from+1)
			var window []Addr
			var want []byte
			for _, i := range order {
				window = append(window, addrs[i])
			}
			for _, i := range order[from:to] {
				want = append(want, data[i*BlockSize:(i+1)*BlockSize]...)
			}
			room := bytes.Repeat([]byte{0xa5}, len(want)+2*BlockSize)
			if err := s.ReadWithin(window, from, to, room[BlockSize:BlockSize+len(want)]); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			canary := bytes.Repeat([]byte{0xa5}, BlockSize)
			if !bytes.Equal(room[:BlockSize], canary) || !bytes.Equal(room[BlockSize+len(want):], canary) {
				t.Fatalf("seed %d: bytes beside the request were touched", seed)
			}
			if !bytes.Equal(room[BlockSize:BlockSize+len(want)], want) {
				t.Fatalf("seed %d: blocks %v of %v read wrong", seed, order[from:to], order)
			}
		}
	}
	for _, bad := range [][2]int{{-1, 2}, {2, 1}, {0, len(addrs) + 1}} {
		if err := s.ReadWithin(addrs, bad[0], bad[1], make([]byte, BlockSize)); err == nil {
			t.Errorf("a window from %d to %d was taken", bad[0], bad[1])
		}
	}
}

// Any bytes of any block read right.
func TestReadBytes(t *testing.T) {
	s, fs := newStoreTest(t)
	addrs, data := aged(t, s)
	rng := newRNG(seeds(1)[0])
	for range 500 {
		i, off := rng.IntN(len(addrs)), rng.IntN(BlockSize)
		got := make([]byte, rng.IntN(BlockSize-off)+1)
		if err := s.ReadBytes(addrs[i], off, got); err != nil || !bytes.Equal(got, data[i*BlockSize+off:][:len(got)]) {
			t.Fatalf("%d bytes at %d of block %d: %v", len(got), off, i, err)
		}
	}
	before := s.Stats().DecodedBytes
	for off := 0; off < BlockSize; off += 4096 {
		must(t, s.ReadBytes(addrs[0], off, make([]byte, 4096)))
	}
	if n := s.Stats().DecodedBytes - before; n > FrameBlocks*BlockSize {
		t.Errorf("%d bytes were decoded for one block", n)
	}
	if s.ReadBytes(addrs[0], 1, make([]byte, BlockSize)) == nil || s.ReadBytes(addrs[0], -1, make([]byte, 1)) == nil {
		t.Error("bytes beyond the block were read")
	}
	sealAll(t, s)
	spoil(t, s, fs, addrs[0])
	if err := s.ReadBytes(addrs[0], 100, make([]byte, 100)); !isDamage(err) {
		t.Errorf("a damaged block: %v", err)
	}
	w := s.NewWriter()
	defer w.Close()
	mustPut(t, w, data[:BlockSize], nil)
	got := make([]byte, 100)
	if err := s.ReadBytes(addrs[0], 100, got); err != nil || !bytes.Equal(got, data[100:200]) {
		t.Errorf("a damaged block with another copy: %v", err)
	}
}

// A frame is decoded once for all its blocks, no further than they lie, and kept
// only while there is more in it for the reader.
func TestDecodedOnce(t *testing.T) {
	s, _ := newStoreTest(t)
	w := s.NewWriter()
	defer w.Close()
	a, _ := mustPut(t, w, blocks(1, 4, 7, 10, 13, 16, 19, 22), nil)
	other, _ := mustPut(t, w, blocks(25, 28), nil)
	for _, c := range []struct {
		name          string
		window        []Addr
		from, to      int
		decoded, kept int // blocks
	}{
		{"both ends of a frame", []Addr{a[0], other[0], a[3]}, 0, 3, 4 + 1, 0},
		{"its beginning, the rest being elsewhere", []Addr{a[0], a[1], other[1]}, 0, 3, 2 + 2, 0},
		{"its beginning, the rest coming next", []Addr{a[0], a[1], a[2], a[3]}, 0, 2, 4, 4},
		{"its end, the rest having come before", []Addr{a[0], a[1], a[2], a[3]}, 2, 4, 4, 4},
		{"all of two", a, 0, 8, 8, 0},
		{"out of order", []Addr{a[5], a[1], a[4], a[0], a[2]}, 0, 5, 3 + 2, 0},
	} {
		s.frames.clear()
		before := s.Stats().DecodedBytes
		must(t, s.ReadWithin(c.window, c.from, c.to, make([]byte, (c.to-c.from)*BlockSize)))
		if n := int(s.Stats().DecodedBytes-before) / BlockSize; n != c.decoded {
			t.Errorf("%s: %d blocks decoded, want %d", c.name, n, c.decoded)
		}
		if n := int(s.frames.bytes()) / BlockSize; n != c.kept {
			t.Errorf("%s: %d blocks kept, want %d", c.name, n, c.kept)
		}
	}
}

// One read fetches what lies together, and reads through what lies between.
func TestFetchedTogether(t *testing.T) {
	s, _ := newStoreTest(t)
	w := s.NewWriter()
	defer w.Close()
	var addrs []Addr
	for n := range uint64(12) {
		one, _ := mustPut(t, w, block(1+3*n), nil)
		addrs = append(addrs, one...)
	}
	for _, c := range []struct {
		name   string
		window []Addr
		reads  uint64
	}{
		{"neighbours", addrs, 1},
		{"neighbours backwards", []Addr{addrs[3], addrs[2], addrs[1], addrs[0]}, 1},
		{"every other one", []Addr{addrs[0], addrs[2], addrs[4]}, 1},
	} {
		before := s.Stats().PackReads
		must(t, s.Read(c.window, make([]byte, len(c.window)*BlockSize)))
		if n := s.Stats().PackReads - before; n != c.reads {
			t.Errorf("%s: %d reads, want %d", c.name, n, c.reads)
		}
	}
}

// Damage is told once, of the block that has it, however many are read with it
// and by however many cores.
func TestDamageToldOnce(t *testing.T) {
	fs := crashfs.New()
	o := testOptions(t, fs)
	var told []*DamageError
	o.Events.Damage = func(err *DamageError) { told = append(told, err) }
	s := openTest(t, o)
	defer closeTest(t, s)
	addrs := storeSealed(t, s, count(1, 32))
	spoil(t, s, fs, addrs[16]) // and with it the rest of its frame
	for _, s.cores = range []int{1, 4} {
		told = nil
		s.frames.clear()
		err := s.Read(addrs, make([]byte, len(addrs)*BlockSize))
		var d *DamageError
		if !errors.As(err, &d) || MakeAddr(d.Pack, uint16(d.Slot)) != addrs[16] {
			t.Errorf("%d cores: %v, want block %v", s.cores, err, addrs[16])
		}
		if len(told) != 1 {
			t.Errorf("%d cores: told %v", s.cores, told)
		}
	}
}
