package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"

	"github.com/strongroom-backup/strongroom/internal/nbdio"
	"github.com/strongroom-backup/strongroom/internal/qsd"
	"github.com/strongroom-backup/strongroom/internal/testdisk"
)

// What a day of use does to the disk of row 3.
const (
	editStep    = 400 // one file in so many is rewritten
	changeEvery = 100 // one block with data in so many gets other content
	changeSeed  = 1   // of the choice of blocks
	shift       = 12345
)

// changedCopy makes a copy of the disk as use would leave it: some files are
// rewritten in the file system, then one block in a hundred is overwritten
// with data from elsewhere on the disk, at an odd distance, so that no block
// of the store has the same content.
func (b *bench) changedCopy(path string) error {
	if err := testdisk.Copy(b.img.Path, path); err != nil {
		return err
	}
	edited := *b.img.Disk
	edited.Path = path
	if _, err := edited.Edit(1, editStep); err != nil {
		return fmt.Errorf("change files (is a source file gone? delete the cached disk): %w", err)
	}
	return b.overwrite(path)
}

func (b *bench) overwrite(path string) error {
	from, err := os.Open(b.img.Path)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	var full []int64
	for i, d := range b.img.data[:len(b.img.data)-1] {
		if d {
			full = append(full, int64(i)*block)
		}
	}
	random, buf := rand.New(rand.NewPCG(changeSeed, changeSeed)), make([]byte, block)
	for range len(full) / changeEvery {
		source, target := full[random.IntN(len(full))], full[random.IntN(len(full))]
		if _, err := from.ReadAt(buf, source+shift); err != nil {
			return errors.Join(err, to.Close())
		}
		if _, err := to.WriteAt(buf, target); err != nil {
			return errors.Join(err, to.Close())
		}
	}
	return to.Close()
}

// write makes the live disk equal to the changed copy, through the storage
// daemon as a guest's writes would come, and returns the blocks touched, in
// order.
func writeChanges(ctx context.Context, d *qsd.Daemon, live, changed string) (dirty []int64, err error) {
	c, err := nbdio.Dial(ctx, "unix", d.Socket, liveNode)
	if err != nil {
		return nil, err
	}
	err = testdisk.Diff(live, changed, func(off int64, data []byte) error {
		for i := off / block; i <= (off+int64(len(data))-1)/block; i++ {
			dirty = append(dirty, i)
		}
		_, err := c.WriteAt(data, off)
		return err
	})
	return slices.Compact(dirty), errors.Join(err, c.Flush(), c.Close())
}

// dirtyData is the content of the dirty blocks that hold any, as runs of
// neighbours of at most four: how a frame would hold them.
func dirtyData(changed string, dirty []int64) (runs [][]byte, err error) {
	f, err := os.Open(changed)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const frame = 4 * block
	next, zero := int64(-1), make([]byte, block)
	for _, i := range dirty {
		buf := make([]byte, block)
		if _, err := f.ReadAt(buf, i*block); err != nil {
			return nil, err
		}
		if bytes.Equal(buf, zero) {
			continue
		}
		if last := len(runs) - 1; i == next && len(runs[last]) < frame {
			runs[last] = append(runs[last], buf...)
		} else {
			runs = append(runs, buf)
		}
		next = i + 1
	}
	return runs, nil
}
