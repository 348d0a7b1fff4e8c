package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// compressedBlocks is what the zstd program makes of data at a level, when
// every block of 64 KiB is compressed by itself, in bytes.
func compressedBlocks(ctx context.Context, work string, runs [][]byte, level int) (int64, error) {
	path := filepath.Join(work, "dirty.bin")
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	for _, r := range runs {
		if _, err := f.Write(r); err != nil {
			return 0, err
		}
	}
	if err := f.Close(); err != nil {
		return 0, err
	}
	out, err := command(ctx, nil, "zstd", "-q", "-b"+strconv.Itoa(level), "-B"+strconv.Itoa(block), "-i0", path)
	if err != nil {
		return 0, err
	}
	// "-3     12971862 (2.313) 220.55 MB/s …" is the line of level 3.
	for line := range strings.Lines(string(out)) {
		if w := strings.Fields(line); len(w) > 1 && w[0] == "-"+strconv.Itoa(level) {
			return strconv.ParseInt(w[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("zstd -b: no figure in %q", out)
}

// compressedRuns is what our own encoder makes of the same data when
// neighbours are compressed together, four blocks at most, in bytes.
func compressedRuns(runs [][]byte) (n int64, err error) {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return 0, err
	}
	defer e.Close()
	for _, r := range runs {
		n += int64(len(e.EncodeAll(r, nil)))
	}
	return n, nil
}
