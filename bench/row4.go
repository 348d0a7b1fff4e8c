package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/strongroom-backup/strongroom/internal/testdisk"
)

// The bars of row 4.
const (
	barServed = 1.0 // × qemu-nbd serving the packed copy
	barDumped = 3.0 // × restic
)

// row4 is a sequential restore of the whole disk.
func (b *bench) row4(ctx context.Context) error {
	if err := errors.Join(b.stored(ctx), b.packedDisk(ctx), b.filled(ctx, b.restic), b.filled(ctx, b.borg)); err != nil {
		return err
	}
	socket := filepath.Join(b.work, "qemu.sock")
	peer, err := startQemuNBD(ctx, socket, b.qcow2)
	if err != nil {
		return err
	}
	return errors.Join(
		b.contest(ctx, b.readContest(peer, uri("", socket))),
		b.contest(ctx, b.restoreContest(peer, uri("", socket))),
		peer.stop())
}

// readContest reads everything and keeps nothing.
func (b *bench) readContest(peer *child, peerURI string) contest {
	copyTurn := func(server *child, uri string) func(context.Context) (trial, error) {
		return b.turn(server, func(ctx context.Context) error { return quiet(ctx, nil, "nbdcopy", uri, "null:") })
	}
	dumpTurn := func(r repository) func(context.Context) (trial, error) {
		return b.turn(nil, func(ctx context.Context) error { return r.run(ctx, r.dump) })
	}
	return contest{row: 4, title: "sequential restore, read to nothing", unit: "MiB/s", contenders: []contender{
		{name: "strongroom, nbdcopy null:", ours: true, turn: copyTurn(b.srv.child, b.srv.export(vmName, b.point))},
		{name: "qemu-nbd qcow2 zstd, nbdcopy null:", bar: barServed, turn: copyTurn(peer, peerURI)},
		{name: "restic dump", bar: barDumped, slow: true, turn: dumpTurn(b.restic)},
		{name: "borg extract --stdout (lz4)", slow: true, turn: dumpTurn(b.borg)},
	}}
}

// restoreContest writes a raw file. It is the same file every time, but for
// restic and strongroom restore, which make their own.
func (b *bench) restoreContest(peer *child, peerURI string) contest {
	raw, own := filepath.Join(b.work, "restored.raw"), filepath.Join(b.work, "own")
	convertTurn := func(server *child, uri string) func(context.Context) (trial, error) {
		return func(ctx context.Context) (trial, error) {
			t, _ := b.turn(server, func(ctx context.Context) error { return convertFromNBD(ctx, uri, raw) })(ctx)
			t.after = func() error { return testdisk.Equal(b.img.Path, raw) }
			return t, sized(raw, b.img.Size)
		}
	}
	ownTurn := func(server *child, restore func(context.Context) error, file string) func(context.Context) (trial, error) {
		return func(ctx context.Context) (trial, error) {
			t, _ := b.turn(server, restore)(ctx)
			t.after = func() error { return errors.Join(testdisk.Equal(b.img.Path, file), os.RemoveAll(own)) }
			return t, os.Mkdir(own, 0o700)
		}
	}
	ourFile := filepath.Join(own, "disk.raw")
	return contest{row: 4, title: "sequential restore, to a raw file", unit: "MiB/s", contenders: []contender{
		{name: "strongroom, qemu-img convert", ours: true, turn: convertTurn(b.srv.child, b.srv.export(vmName, b.point))},
		{name: "strongroom restore", note: "new file", ours: true, free: true, turn: ownTurn(b.srv.child, func(ctx context.Context) error {
			return quiet(ctx, []string{"STRONGROOM_API=" + b.srv.api()}, b.binary, "restore", vmName+"/"+diskName+"@"+b.point, "--output", ourFile)
		}, ourFile)},
		{name: "qemu-nbd qcow2 zstd, qemu-img convert", bar: barServed, turn: convertTurn(peer, peerURI)},
		{name: "restic restore", note: "new file", bar: barDumped, slow: true, turn: ownTurn(nil, func(ctx context.Context) error {
			return b.restic.run(ctx, append(b.restic.restore, own))
		}, filepath.Join(own, b.img.Path))},
	}}
}

// turn is a turn of work that moves the disk's data once.
func (b *bench) turn(server *child, work func(context.Context) error) func(context.Context) (trial, error) {
	return func(ctx context.Context) (trial, error) {
		t := trial{work: func() (yield, error) { return yield{amount: b.dataMiB()}, work(ctx) }}
		if server != nil {
			t.server = server.pid()
		}
		return t, nil
	}
}

// sized makes sure that a file of that size is there.
func sized(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}
