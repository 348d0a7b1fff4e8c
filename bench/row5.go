package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
)

// barRandom is row 5's: × qemu-nbd serving the packed copy from memory.
const barRandom = 0.5

// row5 is random reads of single blocks, sixteen in flight, where the disk
// holds data.
func (b *bench) row5(ctx context.Context) error {
	if err := errors.Join(b.stored(ctx), b.packedDisk(ctx)); err != nil {
		return err
	}
	socket := filepath.Join(b.work, "qemu.sock")
	peer, err := startQemuNBD(ctx, socket, b.qcow2)
	if err != nil {
		return err
	}
	off, length := b.img.dense()
	err = b.contest(ctx, contest{
		row: 5, title: "64 KiB random reads, 16 in flight", unit: "reads/s",
		contenders: []contender{
			{name: "strongroom, fio", ours: true, turn: fioTurn(b.srv.child, b.srv.export(vmName, b.point), off, length)},
			{name: "qemu-nbd qcow2 zstd, fio", note: "file in the page cache", bar: barRandom, turn: fioTurn(peer, uri("", socket), off, length)},
		},
	})
	return errors.Join(err, peer.stop())
}

// fioTurn reads half of a part of the disk. A contender's n-th turn reads the
// same places as the other's n-th.
func fioTurn(server *child, uri string, off, length int64) func(context.Context) (trial, error) {
	seed := 0
	return func(ctx context.Context) (trial, error) {
		seed++
		return trial{server: server.pid(), work: func() (yield, error) {
			out, err := command(ctx, nil, "fio", "--name=reads", "--ioengine=nbd", "--uri="+uri, "--rw=randread",
				"--bs=64k", "--iodepth=16", "--randseed="+strconv.Itoa(seed), "--offset="+strconv.FormatInt(off, 10),
				"--size="+strconv.FormatInt(length, 10), "--io_size="+strconv.FormatInt(length/2, 10), "--output-format=json")
			if err != nil {
				return yield{}, err
			}
			return readFio(out)
		}}, nil
	}
}

// readFio takes fio's own figures, which leave its start out. Before the JSON
// it may print other lines.
func readFio(out []byte) (yield, error) {
	var r struct {
		Jobs []struct {
			Read struct {
				IOs     float64 `json:"total_ios"`
				Runtime float64 `json:"runtime"` // milliseconds
			} `json:"read"`
		} `json:"jobs"`
	}
	for len(out) > 0 && out[0] != '{' {
		out = out[1:]
	}
	if err := json.Unmarshal(out, &r); err != nil || len(r.Jobs) != 1 || r.Jobs[0].Read.Runtime == 0 {
		return yield{}, fmt.Errorf("fio's report is not understood: %w\n%s", err, out)
	}
	return yield{amount: r.Jobs[0].Read.IOs, seconds: r.Jobs[0].Read.Runtime / 1000}, nil
}
