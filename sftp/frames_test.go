package sftp

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"testing"
)

// sshStream is what a server might send, and where packets end.
func sshStream(rng *rand.Rand) (stream []byte, ends map[int]bool) {
	ends = map[int]bool{}
	stream = []byte("SSH-2.0-Strongroom\r\n")
	ends[len(stream)] = true
	packet := func(kind byte, n int, sealed bool) {
		b := binary.BigEndian.AppendUint32(nil, uint32(n))
		b = append(b, bytes.Repeat([]byte{kind}, n)...)
		if sealed {
			b = append(b, make([]byte, tagSize)...)
		}
		stream = append(stream, b...)
		ends[len(stream)] = true
	}
	packet(20, 1100, false)
	packet(31, 200, false)
	packet(typeNewKeys, 12, false)
	for range 50 {
		packet(byte(rng.IntN(256)), 16*(1+rng.IntN(2100)), true)
	}
	return stream, ends
}

func TestFramesOfAnySplit(t *testing.T) {
	rng := seeded(t)
	for range 200 {
		stream, ends := sshStream(rng)
		var f frames
		for at := 0; at < len(stream); {
			n := min(len(stream)-at, 1+rng.IntN(1<<rng.IntN(17)))
			whole := f.advance(stream[at : at+n])
			if at += n; whole != ends[at] {
				t.Fatalf("at byte %d: whole %v, want %v", at, whole, ends[at])
			}
		}
		if f.lost {
			t.Fatal("lost its way")
		}
	}
}

// TestFramesOfSomethingElse checks that nothing is kept of a stream that is not
// understood.
func TestFramesOfSomethingElse(t *testing.T) {
	var f frames
	f.advance([]byte("SSH-2.0-x\r\n"))
	if !f.advance([]byte{0xff, 0xff, 0xff, 0xff, 1, 2}) || !f.advance([]byte{1}) || !f.lost {
		t.Error("it goes on counting")
	}
}

// written is a connection that notes what every write brings.
type written struct {
	net.Conn
	all   []byte
	calls int
}

func (w *written) Write(p []byte) (int, error) {
	w.all = append(w.all, p...)
	w.calls++
	return len(p), nil
}

func TestSocketSendsWholePackets(t *testing.T) {
	rng := seeded(t)
	stream, ends := sshStream(rng)
	w := &written{}
	s := newSock(w)
	for at := 0; at < len(stream); {
		n := min(len(stream)-at, 1+rng.IntN(9000))
		if _, err := s.Write(stream[at : at+n]); err != nil {
			t.Fatal(err)
		}
		if at += n; ends[at] && len(w.all) != at {
			t.Fatalf("%d bytes were sent when a packet ends at %d", len(w.all), at)
		}
	}
	if !bytes.Equal(w.all, stream) {
		t.Error("other bytes were sent")
	}
}
