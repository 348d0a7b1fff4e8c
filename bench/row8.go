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
	dirty  int // blocks changed between two points
	first  string
	last   string
}

// row8 compares the newest point of a long chain with the first.
func (b *bench) row8(ctx context.Context) error {
	if err := b.makeRoom(); err != nil {
		return err
	}
	if err := b.freshServer(ctx, "STRONGROOM_CHAINS_LIMIT=2048"); err != nil {
		return err
	}
	for _, h := range []*history{{vm: "chain128", points: 128, dirty: 64}, {vm: "points1000", points: 1000, dirty: 8}} {
		if err := b.grow(ctx, h); err != nil {
			return fmt.Errorf("row 8, %s: %w", h.vm, err)
		}
		if err := errors.Join(b.openings(ctx, h), b.readings(ctx, h)); err != nil {
			return err
		}
	}
	return nil
}

// grow makes the history: a full of real data, then incrementals that change
// blocks all over the disk.
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
	rng := rand.New(rand.NewPCG(8, uint64(h.points)))
	start := time.Now()
	for n := range h.points {
		mode, write := "full", [][2]int64{}
		for at := int64(0); n == 0 && at < chainDisk; at += 8 * mib {
			write = append(write, [2]int64{at, 8 * mib})
		}
		for i := 0; n > 0 && i < h.dirty; i++ {
			mode = "incremental"
			at := rng.Int64N(chainDisk/block) * block
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

// openings times opening an export and reading its first block.
func (b *bench) openings(ctx context.Context, h *history) error {
	const times = 200
	turn := func(point string) func(context.Context) (trial, error) {
		return func(ctx context.Context) (trial, error) {
			return trial{server: b.srv.pid(), work: func() (yield, error) {
				p := make([]byte, block)
				for range times {
					c, err := nbdio.Dial(ctx, "unix", b.srv.socket(), h.vm+"/"+diskName+"@"+point)
					if err != nil {
						return yield{}, err
					}
					_, err = c.ReadAt(p, 0)
					if err := errors.Join(err, c.Close()); err != nil {
						return yield{}, err
					}
				}
				return yield{amount: times}, nil
			}}, nil
		}
	}
	return b.contest(ctx, h.contest("open and read one block", "opens/s", turn))
}

// readings times reading all of the disk.
func (b *bench) readings(ctx context.Context, h *history) error {
	turn := func(point string) func(context.Context) (trial, error) {
		return func(ctx context.Context) (trial, error) {
			return trial{server: b.srv.pid(), work: func() (yield, error) {
				return yield{amount: chainDisk / mib}, quiet(ctx, nil, "nbdcopy", b.srv.export(h.vm, point), "null:")
			}}, nil
		}
	}
	return b.contest(ctx, h.contest("read the whole disk, nbdcopy", "MiB/s", turn))
}

func (h *history) contest(what, unit string, turn func(point string) func(context.Context) (trial, error)) contest {
	return contest{
		row: 8, title: fmt.Sprintf("%d points of a disk: %s", h.points, what), unit: unit,
		contenders: []contender{
			{name: "the newest point", ours: true, turn: turn(h.last)},
			{name: "the first point", bar: barChain, turn: turn(h.first)},
		},
	}
}
