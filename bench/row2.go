package main

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/strongroom-backup/strongroom/internal/qsd"
)

// barDiscard is row 2's: × an NBD server that throws away what it gets.
const barDiscard = 0.6

// row2 is a full backup of a disk the store already has, by each client in
// turn with a server that does nothing.
func (b *bench) row2(ctx context.Context) error {
	if err := b.stored(ctx); err != nil {
		return err
	}
	socket := filepath.Join(b.work, "null.sock")
	null, err := startDiscard(ctx, socket, b.img.Size)
	if err != nil {
		return err
	}
	err = errors.Join(b.contest(ctx, contest{
		row: 2, title: "the same disk again, nothing changed, qemu-img convert", unit: "MiB/s",
		contenders: []contender{
			{name: "strongroom, full session", note: "start to commit", ours: true, turn: b.convertTurn},
			{name: "nbdkit null", note: "throws data away", bar: barDiscard, turn: b.turn(null, func(ctx context.Context) error {
				return convertToNBD(ctx, b.img.Path, uri("", socket))
			})},
		},
	}), b.contest(ctx, contest{
		row: 2, title: "the same disk again, nothing changed, QEMU blockdev-backup", unit: "MiB/s",
		contenders: []contender{
			{name: "strongroom, full session", note: "start to commit", ours: true, turn: b.backupTurn},
			{name: "nbdkit null", note: "throws data away", bar: barDiscard, turn: func(ctx context.Context) (trial, error) {
				return b.jobTurn(ctx, null, func(d *qsd.Daemon) (yield, error) {
					return yield{amount: b.dataMiB()}, pushJob(ctx, d, socket, "", qsd.Backup{Sync: "full"})
				})
			}},
		},
	}))
	return errors.Join(err, null.stop())
}
