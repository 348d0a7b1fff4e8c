package qcow2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// unpacker decompresses clusters. It is safe for concurrent use.
type unpacker struct {
	clusterSize int64
	one         func(p, from []byte) error // decompress just len(p) bytes
	sources     sync.Pool                  // *[]byte, each for the longest compressed cluster
	inflaters   sync.Pool
	zstd        func() (*zstd.Decoder, error)
}

func newUnpacker(method string, clusterSize int64) *unpacker {
	u := &unpacker{clusterSize: clusterSize}
	u.one = u.inflate
	if method == compressedZstd {
		u.one = u.unzstd
		u.zstd = sync.OnceValues(func() (*zstd.Decoder, error) {
			return zstd.NewReader(nil, zstd.WithDecoderConcurrency(unpackers), zstd.WithDecoderLowmem(true),
				zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxMemory(zstdWindowMax), zstd.WithDecoderMaxWindow(zstdWindowMax))
		})
	}
	return u
}

// source returns a buffer for the longest compressed cluster, which is as long
// as its L2 entry can say: two clusters. To be put back into sources.
func (u *unpacker) source() *[]byte {
	if b, ok := u.sources.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 2*u.clusterSize)
	return &b
}

var errTooMuch = errors.New("it holds more than a cluster")

// inflate decompresses a raw deflate stream. What follows it in from is ignored.
func (u *unpacker) inflate(p, from []byte) error {
	in := bytes.NewReader(from)
	r, ok := u.inflaters.Get().(io.ReadCloser)
	if !ok {
		r = flate.NewReader(in)
	} else if err := r.(flate.Resetter).Reset(in, nil); err != nil {
		return err
	}
	defer u.inflaters.Put(r)
	if n, err := io.ReadFull(r, p); err != nil {
		return fmt.Errorf("it ends after %d of %d bytes: %w", n, len(p), err)
	}
	var more [1]byte
	switch n, err := io.ReadFull(r, more[:]); {
	case n > 0:
		return errTooMuch
	case err != io.EOF:
		return fmt.Errorf("its end: %w", err)
	}
	return nil
}

// unzstd decompresses one zstd frame. What follows it in from is ignored.
func (u *unpacker) unzstd(p, from []byte) error {
	n, err := frameLength(from)
	if err != nil {
		return err
	}
	decoder, err := u.zstd()
	if err != nil {
		return err
	}
	out, err := decoder.DecodeAll(from[:n], p[:0:len(p)])
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return errTooMuch
	case err != nil:
		return err
	case len(out) != len(p):
		return fmt.Errorf("it holds %d of %d bytes", len(out), len(p))
	}
	copy(p, out) // if the decoder took another buffer
	return nil
}

// frameLength returns how long the zstd frame at the beginning of b is: where it
// ends only its blocks tell, each with a header of three bytes: bit 0 set for the
// last block, bits 1 and 2 the kind, above them the size.
func frameLength(b []byte) (int, error) {
	var h zstd.Header
	if err := h.Decode(b); err != nil {
		return 0, fmt.Errorf("no zstd frame: %w", err)
	}
	if h.Skippable {
		return 0, errors.New("a skippable zstd frame")
	}
	pos := h.HeaderSize
	for last := false; !last; {
		if len(b)-pos < 3 {
			return 0, io.ErrUnexpectedEOF
		}
		block := int(b[pos]) | int(b[pos+1])<<8 | int(b[pos+2])<<16
		last = block&1 != 0
		pos += 3
		if kind := block >> 1 & 3; kind == 1 { // one byte, to be repeated
			pos++
		} else {
			pos += block >> 3
		}
	}
	if h.HasCheckSum {
		pos += 4
	}
	if pos > len(b) {
		return 0, io.ErrUnexpectedEOF
	}
	return pos, nil
}
