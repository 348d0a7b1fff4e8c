package nbd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

// trickle hands out a byte slice in pieces of random size, then an error.
type trickle struct {
	data []byte
	rnd  *rand.Rand
	err  error
	mids []bool
}

func (s *trickle) more(dst []byte, need int, mid bool) (int, error) {
	if need < 1 || need > len(dst) {
		panic("stream asks for what it has no room for")
	}
	s.mids = append(s.mids, mid)
	if len(s.data) == 0 {
		return 0, s.err
	}
	n := copy(dst[:1+s.rnd.IntN(len(dst))], s.data)
	s.data = s.data[n:]
	return n, nil
}

// Messages of all kinds come out as they went in, however they are cut.
func TestStream(t *testing.T) {
	const seed = 7
	rnd := rand.New(rand.NewPCG(seed, seed))
	for round := range 200 {
		src := &trickle{rnd: rnd, err: io.EOF}
		var sizes []int
		for range 50 {
			n := rnd.IntN(1 << rnd.IntN(12))
			sizes = append(sizes, n)
			src.data = binary.BigEndian.AppendUint32(src.data, uint32(n))
			src.data = append(src.data, bytes.Repeat([]byte{byte(n)}, n)...)
		}
		s := &stream{buf: make([]byte, 64), more: src.more}
		for i, n := range sizes {
			h, err := s.need(4)
			if err != nil || int(binary.BigEndian.Uint32(h)) != n {
				t.Fatalf("round %d message %d: %v %x, want length %d", round, i, err, h, n)
			}
			s.skip(4)
			if rnd.IntN(3) == 0 {
				if err := s.discard(n); err != nil {
					t.Fatal(err)
				}
				continue
			}
			p := make([]byte, n)
			if err := s.full(p); err != nil || !bytes.Equal(p, bytes.Repeat([]byte{byte(n)}, n)) {
				t.Fatalf("round %d message %d: %v or wrong payload", round, i, err)
			}
		}
		if _, err := s.need(4); err != io.EOF {
			t.Fatalf("at the end: %v", err)
		}
		if src.mids[len(src.mids)-1] {
			t.Fatal("the end between messages was taken for the middle of one")
		}
	}
}

func TestStreamEndsMidway(t *testing.T) {
	boom := errors.New("boom")
	for _, in := range []error{io.EOF, boom} {
		want := in
		if in == io.EOF {
			want = io.ErrUnexpectedEOF
		}
		for name, f := range map[string]func(*stream) error{
			"need":    func(s *stream) error { _, err := s.need(8); return err },
			"full":    func(s *stream) error { return s.full(make([]byte, 8)) },
			"discard": func(s *stream) error { return s.discard(8) },
		} {
			src := &trickle{data: []byte("abc"), rnd: rand.New(rand.NewPCG(1, 1)), err: in}
			if err := f(&stream{buf: make([]byte, 64), more: src.more}); err != want {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		}
	}
}
