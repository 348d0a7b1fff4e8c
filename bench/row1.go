package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/strongroom-backup/strongroom/internal/qsd"
)

// The bars of row 1.
const (
	barPacked = 1.0 // × qemu-img's compressed copy
	barArcher = 2.5 // × restic and borg
)

// row1 is a full backup of a disk the store knows nothing of. Every turn starts
// from an empty store.
func (b *bench) row1(ctx context.Context) error {
	err := b.contest(ctx, contest{
		row: 1, title: "full backup, all new data", unit: "MiB/s",
		contenders: []contender{
			{name: "strongroom, qemu-img convert", note: "start to commit", ours: true, turn: b.freshTurn(b.convertTurn)},
			{name: "strongroom, QEMU blockdev-backup", note: "start to commit", ours: true, turn: b.freshTurn(b.backupTurn)},
			{name: "qemu-img convert -c, qcow2 zstd", note: "local file, flushed once", bar: barPacked, turn: b.packTurn},
			b.repositoryContender("restic backup (zstd auto)", b.restic),
			b.repositoryContender("borg create lz4", b.borg),
			b.repositoryContender("borg create zstd,3", borg(b.work, b.img.Path, "zstd,3")),
		},
	})
	return errors.Join(err, os.RemoveAll(filepath.Join(b.work, "borg-zstd,3")))
}

// freshTurn is a turn on an empty store.
func (b *bench) freshTurn(turn func(context.Context) (trial, error)) func(context.Context) (trial, error) {
	return func(ctx context.Context) (trial, error) {
		if err := b.freshServer(ctx); err != nil {
			return trial{}, err
		}
		return turn(ctx)
	}
}

// convertTurn is one full backup with qemu-img.
func (b *bench) convertTurn(ctx context.Context) (trial, error) {
	return trial{server: b.srv.pid(), work: func() (yield, error) {
		_, err := b.pushConvert(ctx)
		return yield{amount: b.dataMiB(), stored: b.storeSize()}, err
	}}, nil
}

// backupTurn is one full backup by a QEMU block job.
func (b *bench) backupTurn(ctx context.Context) (trial, error) {
	return b.jobTurn(ctx, b.srv.child, func(d *qsd.Daemon) (yield, error) {
		_, _, err := b.backup(ctx, d, "full", qsd.Backup{Sync: "full"})
		return yield{amount: b.dataMiB(), stored: b.storeSize()}, err
	})
}

// jobTurn is a turn of work with a storage daemon that has the disk open.
func (b *bench) jobTurn(ctx context.Context, server *child, work func(*qsd.Daemon) (yield, error)) (trial, error) {
	d, err := b.liveDisk(ctx, b.img.Path)
	if err != nil {
		return trial{}, err
	}
	return trial{server: server.pid(), work: func() (yield, error) { return work(d) }, after: d.Close}, nil
}

// backup is one session by a QEMU job, from start to commit, and its seconds.
func (b *bench) backup(ctx context.Context, d *qsd.Daemon, mode string, job qsd.Backup, before ...qsd.Action) (receipt, float64, error) {
	start := time.Now()
	open, err := b.srv.begin(ctx, vmName, b.img.Size, mode)
	if err != nil {
		return receipt{}, 0, err
	}
	if err := pushJob(ctx, d, b.srv.socket(), open.Disks[0].Export, job, before...); err != nil {
		return receipt{}, 0, err
	}
	r, err := b.committed(ctx, open)
	return r, time.Since(start).Seconds(), err
}

// liveNode is the disk's node in a storage daemon.
const liveNode = "disk"

// liveDisk runs a storage daemon that has a raw file open as a VM would.
func (b *bench) liveDisk(ctx context.Context, raw string) (*qsd.Daemon, error) {
	d, err := qsd.Start(ctx, b.work)
	if err != nil {
		return nil, err
	}
	if err := d.AddDisk(ctx, liveNode, raw, "raw"); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// pushJob runs a backup job of the live disk into an export, to the FLUSH that
// closing the target sends.
func pushJob(ctx context.Context, d *qsd.Daemon, socket, export string, job qsd.Backup, before ...qsd.Action) error {
	job.Job, job.Device, job.Target = "backup", liveNode, "target"
	if err := d.AddTarget(ctx, qsd.Target{Node: job.Target, Unix: socket, Export: export}); err != nil {
		return err
	}
	if err := d.Transaction(ctx, append(before, job.Action())...); err != nil {
		return err
	}
	if err := d.Wait(ctx, job.Job); err != nil {
		return err
	}
	return d.RemoveNode(ctx, job.Target)
}

// packTurn is qemu-img writing its own compressed copy.
func (b *bench) packTurn(ctx context.Context) (trial, error) {
	b.qcow2 = ""
	path := filepath.Join(b.work, "disk.qcow2")
	if err := os.RemoveAll(path); err != nil {
		return trial{}, err
	}
	return trial{work: func() (yield, error) {
		err := b.packedDisk(ctx)
		return yield{amount: b.dataMiB(), stored: allocated(path)}, err
	}}, nil
}

func (b *bench) repositoryContender(name string, r repository) contender {
	return contender{name: name, note: "local repository, fsync per pack", bar: barArcher, slow: true, turn: func(ctx context.Context) (trial, error) {
		if err := r.fresh(ctx); err != nil {
			return trial{}, err
		}
		return trial{work: func() (yield, error) {
			err := r.run(ctx, r.backup)
			b.packed[r.dir] = err == nil
			return yield{amount: b.dataMiB(), stored: sizeOf(r.dir)}, err
		}}, nil
	}}
}

// storeSize is what the running server's data takes on disk.
func (b *bench) storeSize() int64 { return sizeOf(b.srv.data) }
