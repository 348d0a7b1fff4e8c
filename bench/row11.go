package main

import (
	"context"
	"errors"
	"path/filepath"
)

// cloneWrites is how many random writes of 4 KiB a clone has had that counts as
// used: enough to touch every part of the disk.
const cloneWrites = "4000"

// row11 is what a guest on a clone reads from the point below it: random reads of
// 4 KiB and of 64 KiB, sixteen in flight, on a clone that is new and on one that was
// written to all over.
func (b *bench) row11(ctx context.Context) error {
	if err := errors.Join(b.stored(ctx), b.packedDisk(ctx)); err != nil {
		return err
	}
	fresh, err := b.srv.clone(ctx, b.point)
	if err != nil {
		return err
	}
	used, err := b.srv.clone(ctx, b.point)
	if err != nil {
		return err
	}
	off, length := b.img.dense()
	if err := quiet(ctx, nil, "fio", append(fioJob(used, "randwrite", "4k", 11, off, length), "--number_ios="+cloneWrites)...); err != nil {
		return err
	}
	socket := filepath.Join(b.work, "qemu.sock")
	peer, err := startQemuNBD(ctx, socket, b.qcow2)
	if err != nil {
		return err
	}
	for _, w := range []struct {
		bs   string
		part int64 // of what is read
	}{{"4k", 128}, {"64k", 4}} {
		read := reads{bs: w.bs, off: off, length: length, amount: length / w.part}
		err = errors.Join(err, b.contest(ctx, contest{
			row: 11, title: w.bs + " random reads, 16 in flight", unit: "reads/s",
			contenders: []contender{
				{name: "a point", ours: true, turn: read.turn(b.srv.child, b.srv.export(vmName, b.point))},
				{name: "a clone nobody wrote to", ours: true, turn: read.turn(b.srv.child, fresh)},
				{name: "a clone written to all over", note: cloneWrites + " writes of 4 KiB", ours: true, turn: read.turn(b.srv.child, used)},
				{name: "qemu-nbd qcow2 zstd", note: "file in the page cache", turn: read.turn(peer, uri("", socket))},
			},
		}))
	}
	return errors.Join(err, peer.stop())
}

// clone makes a clone of a point's disk and returns its URI.
func (s *server) clone(ctx context.Context, point string) (string, error) {
	var made struct {
		Disks []struct {
			UnixURI string `json:"unix_uri"`
		} `json:"disks"`
	}
	if err := s.cli(ctx, &made, "clone", "create", vmName+"/"+diskName+"@"+point, "--json"); err != nil {
		return "", err
	}
	if len(made.Disks) != 1 {
		return "", errors.New("clone create answered no disk, or several")
	}
	return made.Disks[0].UnixURI, nil
}
