package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strongroom-backup/strongroom/internal/nbdio"
	"github.com/strongroom-backup/strongroom/internal/qsd"
	"github.com/strongroom-backup/strongroom/internal/testdisk"
)

// The bars of row 3, both upper ones.
const (
	barStored   = 1.15  // stored ÷ zstd -3 of the dirty blocks, each by itself
	barMetadata = 0.001 // everything beside packs ÷ size of the disk
)

// wideSize is a disk on which a cost that grows with the size would show.
const wideSize = 1 << 40

// row3 is an incremental backup by a dirty bitmap. It is about bytes, so it is
// done once.
func (b *bench) row3(ctx context.Context) error {
	if err := errors.Join(b.makeRoom(), b.stored(ctx)); err != nil {
		return err
	}
	r := result{Row: 3, Title: "incremental by dirty bitmap"}
	if err := errors.Join(b.incremental(ctx, &r), b.wide(ctx, &r)); err != nil {
		return fmt.Errorf("row 3: %w", err)
	}
	b.report.Results = append(b.report.Results, r)
	return nil
}

// makeRoom drops what other rows left behind.
func (b *bench) makeRoom() (err error) {
	for _, p := range []string{b.restic.dir, b.borg.dir, b.qcow2, filepath.Join(b.work, "restored.raw")} {
		if p != "" {
			err = errors.Join(err, os.RemoveAll(p))
		}
	}
	b.qcow2 = ""
	clear(b.packed)
	return err
}

// usage is what a data directory holds, in bytes on disk.
type usage struct{ packs, metadata, databases int64 }

func (b *bench) usage() usage {
	unix.Sync()
	at := func(names ...string) (n int64) {
		for _, name := range names {
			n += sizeOf(filepath.Join(b.srv.data, name))
		}
		return n
	}
	return usage{at("tier0/packs"), at("tier0/meta", "sessions"), at("catalog", "index")}
}

func (u usage) since(old usage) usage {
	return usage{u.packs - old.packs, u.metadata - old.metadata, u.databases - old.databases}
}

// incremental pushes the changes of a day with QEMU and compares what was
// stored with what had to be.
func (b *bench) incremental(ctx context.Context, r *result) error {
	live, changed := filepath.Join(b.work, "live.raw"), filepath.Join(b.work, "changed.raw")
	defer func() { _, _ = os.Remove(live), os.Remove(changed) }()
	if err := errors.Join(testdisk.Copy(b.img.Path, live), b.changedCopy(changed)); err != nil {
		return err
	}
	got, err := b.pushIncrement(ctx, live, changed)
	if err != nil {
		return err
	}
	if err := quiet(ctx, nil, "qemu-img", "compare", "-f", "raw", "-F", "raw", changed, b.srv.export(vmName, got.receipt.Point)); err != nil {
		return err
	}
	return b.judge(ctx, r, changed, got)
}

// increment is an incremental backup that has been committed.
type increment struct {
	receipt receipt
	dirty   []int64 // blocks that the guest touched
	grown   usage
	seconds float64
}

func (b *bench) pushIncrement(ctx context.Context, live, changed string) (got increment, err error) {
	d, err := b.liveDisk(ctx, live)
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	full := qsd.Backup{Sync: "full"}
	if _, _, err = b.backup(ctx, d, "full", full, qsd.AddBitmap(liveNode, "day", false)); err != nil {
		return got, err
	}
	if got.dirty, err = writeChanges(ctx, d, live, changed); err != nil {
		return got, err
	}
	before := b.usage()
	got.receipt, got.seconds, err = b.backup(ctx, d, "incremental", qsd.Backup{Sync: "incremental", Bitmap: "day"})
	got.grown = b.usage().since(before)
	return got, err
}

// judge compares the increment with its references.
func (b *bench) judge(ctx context.Context, r *result, changed string, got increment) error {
	runs, err := dirtyData(changed, got.dirty)
	if err != nil {
		return err
	}
	level1, err1 := compressedBlocks(ctx, b.work, runs, 1)
	level3, err3 := compressedBlocks(ctx, b.work, runs, 3)
	framed, errFramed := compressedRuns(runs)
	if err := errors.Join(err1, err3, errFramed); err != nil {
		return err
	}
	sent := got.receipt.Images[0]
	r.Facts = append(r.Facts,
		fact{"dirty blocks, by the bitmap", int64(len(got.dirty)) * block, "bytes"},
		fact{"transferred", sent.Written, "bytes"},
		fact{"new to the store", sent.New, "bytes"},
		fact{"stored, by the receipt", sent.Stored, "bytes"},
		fact{"stored, growth of the pack files", got.grown.packs, "bytes"},
		fact{"metadata log and session, growth", got.grown.metadata, "bytes"},
		fact{"databases, growth", got.grown.databases, "bytes"},
		fact{"zstd -1 of the dirty blocks, each by itself", level1, "bytes"},
		fact{"zstd -3 of the dirty blocks, each by itself", level3, "bytes"},
		fact{"our encoder, neighbours together (256 KiB)", framed, "bytes"},
		fact{"start to commit", int64(got.seconds * 1000), "ms"})
	r.Verdicts = append(r.Verdicts,
		atMost("stored by the receipt / zstd -3", sent.Stored, level3, barStored),
		atMost("pack files' growth / zstd -3", got.grown.packs, level3, barStored),
		atMost("pack files' growth / zstd -1", got.grown.packs, level1, 0),
		atMost("other growth / disk size", got.grown.metadata+got.grown.databases, b.img.Size, barMetadata))
	return nil
}

// wide changes one block of a 1 TiB disk.
func (b *bench) wide(ctx context.Context, r *result) error {
	if _, err := b.oneBlock(ctx, "full", 0); err != nil {
		return err
	}
	before := b.usage()
	seconds, err := b.oneBlock(ctx, "incremental", wideSize/2)
	if err != nil {
		return err
	}
	grown := b.usage().since(before)
	r.Facts = append(r.Facts,
		fact{"1 TiB disk, one block changed: growth", grown.packs + grown.metadata + grown.databases, "bytes"},
		fact{"1 TiB disk, one block changed: start to commit", int64(seconds * 1000), "ms"})
	r.Verdicts = append(r.Verdicts,
		atMost("1 TiB disk, one block changed: other growth / disk size", grown.metadata+grown.databases, wideSize, barMetadata))
	return nil
}

// oneBlock backs up a 1 TiB disk of which one block, at off, was written.
func (b *bench) oneBlock(ctx context.Context, mode string, off int64) (float64, error) {
	start := time.Now()
	open, err := b.srv.begin(ctx, "wide", wideSize, mode)
	if err != nil {
		return 0, err
	}
	c, err := nbdio.Dial(ctx, "unix", b.srv.socket(), open.Disks[0].Export)
	if err != nil {
		return 0, err
	}
	data := make([]byte, block)
	for i := range data {
		data[i] = byte(off>>36) + byte(i*i>>8)
	}
	if _, err := c.WriteAt(data, off); err != nil {
		return 0, err
	}
	if err := errors.Join(c.Flush(), c.Close()); err != nil {
		return 0, err
	}
	_, err = b.srv.commit(ctx, open)
	return time.Since(start).Seconds(), err
}

func atMost(what string, value, reference int64, bar float64) verdict {
	return verdict{What: what, Ratio: float64(value) / float64(reference), Bar: bar, AtMost: true}
}
