package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/strongroom-backup/strongroom/internal/nbdio"
)

// The newest point of a long chain may cost this much of the first one's speed.
const barChain = 0.9

// chainDisk is the size of a chain's disk.
const chainDisk = 512 << 20

// history is a disk that was backed up many times.
type history struct {
	vm     string
	points int
	dirty  int   // blocks changed between two points
	within int64 // the first so many bytes of the disk are where changes fall
	first  string
	last   string
}

// row8 compares the newest point of a long chain with the first, and with the
// newest of a chain of two that made the same changes at once: blocks that were
// rewritten one by one, all over the disk, lie one by one in the packs, however
// many points there are.
func (b *bench) row8(ctx context.Context) error {
	if err := b.makeRoom(); err != nil {
		return err
	}
	if err := b.freshServer(ctx, "STRONGROOM_CHAINS_LIMIT=2048"); err != nil {
		return err
	}
	chain := &history{vm: "chain128", points: 128, dirty: 64, within: chainDisk}
	short := &history{vm: "chain2", points: 2, dirty: 127 * 64, within: chainDisk}
	many := &history{vm: "points1000", points: 1000, dirty: 8, within: chainDisk / 10}
	for _, h := range []*history{chain, short, many} {
		if err := b.grow(ctx, h); err != nil {
			return fmt.Errorf("row 8, %s: %w", h.vm, err)
		}
	}
	return errors.Join(
		b.compareEnds(ctx, "128 points, changes all over the disk", chain, contender{name: "the first point"}, short),
		b.compareEnds(ctx, "1000 points, changes in a tenth of the disk", many, contender{name: "the first point", bar: barChain}, nil))
}

// compareEnds holds the contests of one history. first is the contender that
// the first point is.
func (b *bench) compareEnds(ctx context.Context, title string, h *history, first contender, short *history) error {
	works := []struct {
		what, unit string
		turn       func(vm, point string) func(context.Context) (trial, error)
		bar        float64
	}{
		{"open and read a block", "opens/s", b.opening, barChain},
		{"read the whole disk, nbdcopy", "MiB/s", b.reading, first.bar},
	}
	for _, w := range works {
		c := contest{row: 8, title: title + ": " + w.what, unit: w.unit, contenders: []contender{
			{name: "the newest point", ours: true, turn: w.turn(h.vm, h.last)},
			{name: first.name, bar: w.bar, turn: w.turn(h.vm, h.first)},
		}}
		if short != nil {
			c.contenders = append(c.contenders, contender{
				name: "the newest of two points", note: "the same changes at once", bar: barChain, turn: w.turn(short.vm, short.last)})
		}
		if err := b.contest(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// grow makes the history: a full of real data, then incrementals that change
// single blocks.
func (b *bench) grow(ctx context.Context, h *history) error {
	off, _ := b.img.dense()
	data := make([]byte, chainDisk)
	f, err := os.Open(b.img.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.ReadAt(data, min(off, b.img.Size-chainDisk)); err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(8, 8))
	start := time.Now()
	for n := range h.points {
		mode, write := "full", [][2]int64{}
		for at := int64(0); n == 0 && at < chainDisk; at += 8 * mib {
			write = append(write, [2]int64{at, 8 * mib})
		}
		for i := 0; n > 0 && i < h.dirty; i++ {
			mode = "incremental"
			at := rng.Int64N(h.within/block) * block
			binary.LittleEndian.PutUint64(data[at:], rng.Uint64())
			write = append(write, [2]int64{at, block})
		}
		point, err := b.writeOut(ctx, h.vm, mode, data, write)
		if err != nil {
			return err
		}
		if n == 0 {
			h.first = point
		}
		h.last = point
	}
	progress("row 8: %d points in %v", h.points, time.Since(start).Round(time.Second))
	return nil
}

// writeOut makes a point from parts of data, each {offset, length}.
func (b *bench) writeOut(ctx context.Context, vm, mode string, data []byte, parts [][2]int64) (string, error) {
	open, err := b.srv.begin(ctx, vm, chainDisk, mode)
	if err != nil {
		return "", err
	}
	c, err := nbdio.Dial(ctx, "unix", b.srv.socket(), open.Disks[0].Export)
	if err != nil {
		return "", err
	}
	for _, p := range parts {
		if _, err := c.WriteAt(data[p[0]:p[0]+p[1]], p[0]); err != nil {
			return "", err
		}
	}
	if err := errors.Join(c.Flush(), c.Close()); err != nil {
		return "", err
	}
	r, err := b.srv.commit(ctx, open)
	return r.Point, err
}

// opening times opening an export and reading a block, another one each time:
// every seventh of the disk, so that they lie anywhere in their frames and are
// more than the cache of decoded frames holds.
func (b *bench) opening(vm, point string) func(context.Context) (trial, error) {
	const times = 1000
	return func(ctx context.Context) (trial, error) {
		return trial{server: b.srv.pid(), work: func() (yield, error) {
			p := make([]byte, block)
			for i := range int64(times) {
				c, err := nbdio.Dial(ctx, "unix", b.srv.socket(), vm+"/"+diskName+"@"+point)
				if err != nil {
					return yield{}, err
				}
				_, err = c.ReadAt(p, i*7*block)
				if err := errors.Join(err, c.Close()); err != nil {
					return yield{}, err
				}
			}
			return yield{amount: times}, nil
		}}, nil
	}
}

// reading times reading all of the disk.
func (b *bench) reading(vm, point string) func(context.Context) (trial, error) {
	return func(ctx context.Context) (trial, error) {
		return trial{server: b.srv.pid(), work: func() (yield, error) {
			return yield{amount: chainDisk / mib}, quiet(ctx, nil, "nbdcopy", b.srv.export(vm, point), "null:")
		}}, nil
	}
}
