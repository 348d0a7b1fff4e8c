package dedup

import (
	"bytes"
	"testing"
)

// TestCodecOneRepeatedByte: the smallest payloads there are, a dozen bytes,
// decode whole and in part.
func TestCodecOneRepeatedByte(t *testing.T) {
	c, err := newCodec()
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for count := 1; count <= FrameBlocks; count++ {
		raw := bytes.Repeat([]byte{7}, count*BlockSize)
		payload, id := c.encode(nil, raw)
		for want := 1; want <= count; want++ {
			dst := make([]byte, want*BlockSize)
			if err := c.decode(uint8(id), payload, dst, count); err != nil || !bytes.Equal(dst, raw[:len(dst)]) {
				t.Errorf("%d of %d blocks from %d bytes: %v", want, count, len(payload), err)
			}
		}
	}
}
