package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/strongroom-backup/strongroom/internal/nbdio"
	"github.com/strongroom-backup/strongroom/internal/testdisk"
)

// barAged is row 10's: the newest of many incrementals may cost this much of the
// speed of the same content stored as one full.
const barAged = 0.7

// agedPoints is how many incrementals age a disk.
const agedPoints = 100

// ageing is a disk that is rewritten block by block, all over.
type ageing struct {
	name  string
	every int // of so many blocks with data each incremental rewrites one
}

// row10 compares restoring a disk after a hundred incrementals with restoring
// the same content that a store of its own got as one full backup.
func (b *bench) row10(ctx context.Context) error {
	for _, a := range []ageing{{"1 % of the blocks rewritten each time", 100}, {"0.1 % of the blocks rewritten each time", 1000}} {
		if err := b.compareAged(ctx, a); err != nil {
			return fmt.Errorf("row 10, %s: %w", a.name, err)
		}
	}
	return nil
}

func (b *bench) compareAged(ctx context.Context, a ageing) (err error) {
	if err := errors.Join(b.makeRoom(), b.freshServer(ctx)); err != nil {
		return err
	}
	aged := filepath.Join(b.work, "aged.raw")
	defer func() { err = errors.Join(err, os.Remove(aged)) }()
	old, err := b.age(ctx, a, aged)
	if err != nil {
		return err
	}
	other, err := b.secondServer(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, other.stop(), os.RemoveAll(other.data)) }()
	full, err := b.onServer(other, func() (receipt, error) { return b.pushFile(ctx, aged) })
	if err != nil {
		return err
	}
	return b.readAged(ctx, a, aged, store{b.srv, old}, store{other, full.Point})
}

// store is a point on a server.
type store struct {
	*server
	point string
}

func (s store) uri() string { return s.export(vmName, s.point) }

// readAged holds the contests.
func (b *bench) readAged(ctx context.Context, a ageing, aged string, old, fresh store) error {
	raw := filepath.Join(b.work, "restored.raw")
	ways := []struct {
		what string
		turn func(s store) func(context.Context) (trial, error)
	}{
		{"nbdcopy null:", func(s store) func(context.Context) (trial, error) {
			return b.turn(s.child, func(ctx context.Context) error { return quiet(ctx, nil, "nbdcopy", s.uri(), "null:") })
		}},
		{"qemu-img convert to a raw file", func(s store) func(context.Context) (trial, error) {
			return func(ctx context.Context) (trial, error) {
				t, _ := b.turn(s.child, func(ctx context.Context) error { return convertFromNBD(ctx, s.uri(), raw) })(ctx)
				t.after = func() error { return testdisk.Equal(aged, raw) }
				return t, sized(raw, b.img.Size)
			}
		}},
		{"1 MiB reads, one at a time, no block status", func(s store) func(context.Context) (trial, error) {
			return b.turn(s.child, func(ctx context.Context) error { return readOn(ctx, s) })
		}},
	}
	for _, w := range ways {
		err := b.contest(ctx, contest{row: 10, title: a.name + ": " + w.what, unit: "MiB/s", contenders: []contender{
			{name: "the newest of 101 points", ours: true, turn: w.turn(old)},
			{name: "the same content as a fresh full", bar: barAged, turn: w.turn(fresh)},
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

// readOn reads a whole export as clients do that know nothing of holes.
func readOn(ctx context.Context, s store) error {
	c, err := nbdio.Dial(ctx, "unix", s.socket(), vmName+"/"+diskName+"@"+s.point)
	if err != nil {
		return err
	}
	p := make([]byte, mib)
	for off := int64(0); off < c.Size() && err == nil; off += mib {
		_, err = c.ReadAt(p[:min(mib, c.Size()-off)], off)
	}
	return errors.Join(err, c.Close())
}

// age makes a full of the disk and then the incrementals, and returns the newest
// point; the file at path is its content. Each incremental overwrites random
// blocks with data from elsewhere on the disk, at odd distances, so that no block
// of the store has the same content. They are sent in ascending order, as by a
// backup job that goes through a dirty bitmap.
func (b *bench) age(ctx context.Context, a ageing, path string) (point string, err error) {
	if err := testdisk.Copy(b.img.Path, path); err != nil {
		return "", err
	}
	full, err := b.pushFile(ctx, path)
	if err != nil {
		return "", err
	}
	from, err := os.Open(b.img.Path)
	if err != nil {
		return "", err
	}
	defer from.Close()
	to, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	rng, start := rand.New(rand.NewPCG(10, 10)), time.Now()
	point, with := full.Point, b.img.withData()
	for range agedPoints {
		if point, err = b.rewriteSome(ctx, rng, with, len(with)/a.every, from, to); err != nil {
			return "", err
		}
	}
	progress("row 10: %d points in %v, packs take %s", agedPoints+1, time.Since(start).Round(time.Second), bytesText(b.packBytes()))
	return point, nil
}

// rewriteSome makes one incremental.
func (b *bench) rewriteSome(ctx context.Context, rng *rand.Rand, with []int64, n int, from, to *os.File) (string, error) {
	open, err := b.srv.begin(ctx, vmName, b.img.Size, "incremental")
	if err != nil {
		return "", err
	}
	c, err := nbdio.Dial(ctx, "unix", b.srv.socket(), open.Disks[0].Export)
	if err != nil {
		return "", err
	}
	p := make([]byte, block)
	for _, at := range pick(rng, with, n) {
		source := with[rng.IntN(len(with)-1)] + 1 + rng.Int64N(block-1)
		if _, err := from.ReadAt(p, source); err != nil {
			return "", err
		}
		if _, err := to.WriteAt(p, at); err != nil {
			return "", err
		}
		if _, err := c.WriteAt(p, at); err != nil {
			return "", err
		}
	}
	if err := errors.Join(c.Flush(), c.Close()); err != nil {
		return "", err
	}
	r, err := b.srv.commit(ctx, open)
	return r.Point, err
}

// pick takes n different places, in order.
func pick(rng *rand.Rand, from []int64, n int) []int64 {
	taken := map[int64]bool{}
	for len(taken) < n {
		taken[from[rng.IntN(len(from))]] = true
	}
	out := make([]int64, 0, n)
	for at := range taken {
		out = append(out, at)
	}
	slices.Sort(out)
	return out
}

// secondServer starts a server on an empty data directory beside the one that
// runs.
func (b *bench) secondServer(ctx context.Context) (*server, error) {
	data := filepath.Join(b.work, "data2")
	if err := os.RemoveAll(data); err != nil {
		return nil, err
	}
	return startServer(ctx, b.binary, data)
}

// onServer lets work that is done on the bench's server be done on another one.
func (b *bench) onServer(s *server, work func() (receipt, error)) (receipt, error) {
	srv, point := b.srv, b.point
	b.srv = s
	defer func() { b.srv, b.point = srv, point }()
	return work()
}
