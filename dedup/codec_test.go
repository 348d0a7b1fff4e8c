package dedup

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func testCodec(t testing.TB) *codec {
	t.Helper()
	c, err := newCodec()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c
}

// TestPrefixes decodes every prefix of frames whose blocks compress well, not
// at all and to nothing, in every mixture.
func TestPrefixes(t *testing.T) {
	c := testCodec(t)
	kinds := [][]byte{block(1), block(2), block(3), bytes.Repeat([]byte{'x'}, BlockSize), make([]byte, BlockSize)}
	step := 1
	if raceEnabled {
		step = 17
	}
	for mix := 0; mix < 5*5*5*5; mix += step {
		for count := 1; count <= FrameBlocks; count++ {
			var raw []byte
			for i, m := 0, mix; i < count; i, m = i+1, m/5 {
				raw = append(raw, kinds[m%5]...)
			}
			payload, codecID := c.encode(nil, raw)
			before := bytes.Clone(payload)
			for want := 1; want <= count; want++ {
				dst := make([]byte, want*BlockSize)
				if err := c.decode(uint8(codecID), payload, dst, count); err != nil {
					t.Fatalf("mix %d: %d of %d blocks: %v", mix, want, count, err)
				}
				if !bytes.Equal(dst, raw[:len(dst)]) {
					t.Fatalf("mix %d: %d of %d blocks decode to other bytes", mix, want, count)
				}
				if !bytes.Equal(payload, before) {
					t.Fatalf("mix %d: decoding %d of %d blocks changed the payload", mix, want, count)
				}
			}
		}
	}
}

// TestPrefixIsCheap makes sure that prefixes are decoded as such: the encoder
// still ends a zstd block after each of ours.
func TestPrefixIsCheap(t *testing.T) {
	c := testCodec(t)
	payload, codecID := c.encode(nil, blocks(1, 4, 7, 10))
	z, ok := parseZstd(payload)
	if codecID != codecZstd || !ok || z.content != frameRaw {
		t.Fatalf("not a zstd frame of %d bytes: codec %d, %+v", frameRaw, codecID, z)
	}
	if _, ok := z.blocks(payload, FrameBlocks); !ok {
		t.Error("the zstd blocks are not one per block: prefixes decode whole frames")
	}
}

// TestForeignFrames decodes frames other encoders make.
func TestForeignFrames(t *testing.T) {
	c := testCodec(t)
	raw := blocks(1, 4, 7, 10)
	for _, level := range []zstd.EncoderLevel{zstd.SpeedFastest, zstd.SpeedDefault, zstd.SpeedBestCompression} {
		for _, checksum := range []bool{false, true} {
			t.Run(fmt.Sprint(level, checksum), func(t *testing.T) {
				enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithSingleSegment(true), zstd.WithEncoderCRC(checksum))
				if err != nil {
					t.Fatal(err)
				}
				defer enc.Close()
				payload := enc.EncodeAll(raw, nil)
				for want := 1; want <= FrameBlocks; want++ {
					dst := make([]byte, want*BlockSize)
					if err := c.decode(codecZstd, payload, dst, FrameBlocks); err != nil || !bytes.Equal(dst, raw[:len(dst)]) {
						t.Fatalf("%d blocks: %v", want, err)
					}
				}
			})
		}
	}
}

// TestBombs refuses payloads that claim or make another size than their frame.
func TestBombs(t *testing.T) {
	c := testCodec(t)
	enc, err := zstd.NewWriter(nil, zstd.WithSingleSegment(true))
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	for _, size := range []int{1, BlockSize - 1, BlockSize + 1, frameRaw - 1, frameRaw + 1, 64 << 20} {
		payload := enc.EncodeAll(make([]byte, size), nil)
		for count := 1; count <= FrameBlocks; count++ {
			for want := 1; want <= count; want++ {
				if err := c.decode(codecZstd, payload, make([]byte, want*BlockSize), count); err == nil {
					t.Errorf("%d bytes were taken for %d blocks", size, count)
				}
			}
		}
		if z, ok := parseZstd(payload); ok && z.contentAt > 0 && size > frameRaw { // a liar's header
			lie := bytes.Clone(payload)
			lie[z.contentAt], lie[z.contentAt+1], lie[z.contentAt+2], lie[z.contentAt+3] = 0, 0, 4, 0
			if err := c.decode(codecZstd, lie, make([]byte, frameRaw), FrameBlocks); err == nil {
				t.Errorf("%d bytes that claim to be %d were taken", size, frameRaw)
			}
		}
	}
	for name, payload := range map[string][]byte{"empty": nil, "short": {0x28}, "raw short": make([]byte, BlockSize)} {
		for _, id := range []uint8{codecRaw, codecZstd, codecLater, 3, 255} {
			if err := c.decode(id, payload, make([]byte, frameRaw), FrameBlocks); err == nil {
				t.Errorf("%s payload with codec %d was taken", name, id)
			}
		}
	}
}

// TestLiteralsCompress stores text without repetition small and random bytes
// quickly.
func TestLiteralsCompress(t *testing.T) {
	c := testCodec(t)
	digits := randomBytes(frameRaw)
	if !isFlat(digits) {
		t.Error("random bytes are not flat")
	}
	for i := range digits {
		digits[i] = "0123456789abcdef"[digits[i]&15]
	}
	if isFlat(digits) {
		t.Error("digits are flat")
	}
	if out, id := c.encode(nil, digits); id != codecZstd || len(out) > frameRaw*55/100 {
		t.Errorf("random digits take %d of %d bytes", len(out), frameRaw)
	}
	if _, id := c.encode(nil, randomBytes(frameRaw)); id != codecRaw {
		t.Error("random bytes are not stored raw")
	}
}

func FuzzDecode(f *testing.F) {
	c := testCodec(f)
	for _, n := range []int{1, 2, 4} {
		payload, _ := c.encode(nil, blocks(2, 5, 8, 11)[:n*BlockSize])
		f.Add(payload, uint8(n), uint8(1))
	}
	f.Fuzz(func(t *testing.T, payload []byte, count, want uint8) {
		if count < 1 || count > FrameBlocks || want < 1 || want > count {
			return
		}
		before := bytes.Clone(payload)
		dst := make([]byte, int(want)*BlockSize)
		err := c.decode(codecZstd, payload, dst, int(count))
		if !bytes.Equal(payload, before) {
			t.Fatal("the payload was changed")
		}
		whole := make([]byte, int(count)*BlockSize)
		if c.decode(codecZstd, payload, whole, int(count)) == nil && err == nil && !bytes.Equal(dst, whole[:len(dst)]) {
			t.Fatal("a prefix decodes to something else than the whole")
		}
	})
}
