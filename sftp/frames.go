package sftp

import (
	"bytes"
	"encoding/binary"
)

// frames follows the SSH stream the server sends, to know where packets end:
//
//	version line, "\n"
//	length (4) | padding length (1) | type (1) | …               until NEWKEYS
//	length (4) | encrypted | tag (16)                            from then on
//
// The length is never encrypted with the ciphers that we offer.
type frames struct {
	greeted, sealed bool
	lost            bool // this is no SSH stream as we know it
	head            [6]byte
	have            int // bytes of head
	left            int // bytes of the packet that follow head
}

const (
	typeNewKeys = 21
	tagSize     = 16
	// frameMax is what the SSH library sends at most, twice.
	frameMax = 512 << 10
)

// advance takes what is sent and says whether a packet ends with it. When it
// has lost its way it says so always.
func (f *frames) advance(p []byte) (whole bool) {
	for len(p) > 0 && !f.lost {
		n := 0
		switch {
		case !f.greeted:
			n = bytes.IndexByte(p, '\n') + 1
			f.greeted = n > 0
			if n == 0 {
				return false
			}
		case f.left > 0:
			n = min(f.left, len(p))
			f.left -= n
		default:
			n = copy(f.head[f.have:], p)
			if f.have += n; f.have == len(f.head) {
				f.begin()
			}
		}
		p = p[n:]
	}
	return f.lost || f.have == 0 && f.left == 0
}

// begin reads a packet's head.
func (f *frames) begin() {
	f.have = 0
	length := binary.BigEndian.Uint32(f.head[:])
	if length < 8 || length > frameMax {
		f.lost = true
		return
	}
	f.left = 4 + int(length) - len(f.head)
	if f.sealed {
		f.left += tagSize
	} else if f.head[5] == typeNewKeys {
		f.sealed = true
	}
}
