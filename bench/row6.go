package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/strongroom-backup/strongroom/internal/testdisk"
)

// barSpaceBack is how long the space of a deleted point may take to be free, in
// seconds, with the server's own settings and nobody asking for a collection.
const barSpaceBack = 300

// spaceShare is how much of the space that can come back must have come back
// when the clock stops. A pack that is mostly alive is not worth rewriting, and
// one that is still being filled waits, so all of it never comes at once.
const spaceShare = 0.9

// row6 deletes points and waits for their space.
func (b *bench) row6(ctx context.Context) error {
	if err := errors.Join(b.makeRoom(), b.freshServer(ctx)); err != nil {
		return err
	}
	r := result{Row: 6, Title: "space after a delete, without a command"}
	first, err := b.pushConvert(ctx)
	if err != nil {
		return err
	}
	full := b.packBytes()
	changed := filepath.Join(b.work, "changed.raw")
	if err := b.otherHalf(changed); err != nil {
		return err
	}
	second, err := b.pushFile(ctx, changed)
	if err != nil {
		return err
	}
	both := b.packBytes()
	r.Facts = append(r.Facts,
		fact{"packs with one point of the disk", full, "bytes"},
		fact{"packs with a second one, every other MiB changed", both, "bytes"})
	// The first point's half that the second does not share is as large as what
	// the second brought.
	for _, d := range []struct {
		what, point string
		frees       int64
	}{
		{"the first point, half of it shared", first.Point, both - full},
		{"the last point", second.Point, full},
	} {
		if err := b.deleteAndWait(ctx, &r, d.what, d.point, d.frees); err != nil {
			return fmt.Errorf("row 6: %w", err)
		}
	}
	b.report.Results = append(b.report.Results, r)
	return nil
}

// packBytes is what the packs take on disk.
func (b *bench) packBytes() int64 { return b.usage().packs }

// otherHalf makes a copy of the disk in which every other MiB of data is new.
func (b *bench) otherHalf(path string) error {
	if err := testdisk.Copy(b.img.Path, path); err != nil {
		return err
	}
	return eachBlock(path, b.img.data, func(i int, p []byte) bool {
		if i/16%2 == 0 {
			return false
		}
		for at := 0; at < len(p); at += 4096 {
			p[at] ^= 0x5a
		}
		return true
	})
}

// pushFile backs a raw file up as the bench VM's disk, in full.
func (b *bench) pushFile(ctx context.Context, path string) (receipt, error) {
	open, err := b.srv.begin(ctx, vmName, b.img.Size, "full")
	if err != nil {
		return receipt{}, err
	}
	if err := convertToNBD(ctx, path, open.Disks[0].Unix); err != nil {
		return receipt{}, err
	}
	return b.committed(ctx, open)
}

// deleteAndWait deletes a point for good and waits until the packs are smaller
// by what nobody else needs.
func (b *bench) deleteAndWait(ctx context.Context, r *result, what, point string, frees int64) error {
	before, start := b.packBytes(), time.Now()
	if _, err := command(ctx, []string{"STRONGROOM_API=" + b.srv.api()}, b.srv.binary, "point", "rm", "--now", point); err != nil {
		return err
	}
	goal := before - int64(spaceShare*float64(frees))
	for b.packBytes() > goal {
		if time.Since(start) > barSpaceBack*time.Second*3/2 {
			return fmt.Errorf("%s: deleted %v ago, the packs take %d bytes, want %d", what, time.Since(start), b.packBytes(), goal)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
	took := time.Since(start)
	progress("row 6: %s: %v", what, took.Round(time.Millisecond))
	r.Facts = append(r.Facts, fact{"deleted " + what + ": bytes back", before - b.packBytes(), "bytes"},
		fact{"deleted " + what + ": after", took.Milliseconds(), "ms"})
	r.Verdicts = append(r.Verdicts, verdict{What: what + ": seconds until its space is back",
		Ratio: took.Seconds(), Bar: barSpaceBack, AtMost: true})
	return nil
}
