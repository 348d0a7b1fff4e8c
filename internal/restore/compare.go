package restore

import (
	"context"
	"fmt"
	"strings"
)

// Range is a part of a disk, in bytes.
type Range struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

// compare tells where two contents of size bytes differ, by chunks.
func compare(got, want DiskHash, size int64) (list []Range) {
	for i := range want.Chunks {
		if i < len(got.Chunks) && got.Chunks[i] == want.Chunks[i] {
			continue
		}
		r := Range{int64(i) * ChunkSize, min(ChunkSize, size-int64(i)*ChunkSize)}
		if n := len(list); n > 0 && list[n-1].Offset+list[n-1].Length == r.Offset {
			list[n-1].Length += r.Length
			continue
		}
		list = append(list, r)
	}
	return list
}

func rangesText(list []Range) string {
	var text strings.Builder
	for i, r := range list {
		switch {
		case i == 0:
			text.WriteString("in the bytes ")
		case i == 4:
			fmt.Fprintf(&text, " and %d more ranges", len(list)-i)
			return text.String()
		default:
			text.WriteString(", ")
		}
		fmt.Fprintf(&text, "%d to %d", r.Offset, r.Offset+r.Length-1)
	}
	return text.String()
}

// hashLocal hashes a disk in a file of ours.
func hashLocal(ctx context.Context, src Source, progress func(int64)) (DiskHash, error) {
	h := NewContentHasher(src.Size())
	if err := scan(ctx, src, h, progress, nil, nil); err != nil {
		return DiskHash{}, err
	}
	return h.Sum()
}

// verify reads what was written.
func (d Disk) verify(ctx context.Context, path string, want DiskHash) error {
	f, err := openLocal(path)
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := verifyOpen(ctx, f, d.Format, d.Size, d.Events)
	if err != nil {
		return fmt.Errorf("read %s back: %w", d.Output, err)
	}
	if ranges := compare(got, want, d.Size); len(ranges) > 0 {
		return &MismatchError{Path: d.Output, Ranges: ranges}
	}
	return nil
}

func verifyOpen(ctx context.Context, f *localFile, format Format, size int64, e Events) (DiskHash, error) {
	src, err := openDisk(f, format, size)
	if err != nil {
		return DiskHash{}, err
	}
	n, err := dataOf(src)
	if err != nil {
		return DiskHash{}, err
	}
	e.begin(StepVerify, n)
	return hashLocal(ctx, src, e.Progress)
}
