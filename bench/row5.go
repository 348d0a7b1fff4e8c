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
	read := reads{bs: "64k", off: off, length: length, amount: length / 2}
	err = b.contest(ctx, contest{
		row: 5, title: "64 KiB random reads, 16 in flight", unit: "reads/s",
		contenders: []contender{
			{name: "strongroom, fio", ours: true, turn: read.turn(b.srv.child, b.srv.export(vmName, b.point))},
			{name: "qemu-nbd qcow2 zstd, fio", note: "file in the page cache", bar: barRandom, turn: read.turn(peer, uri("", socket))},
		},
	})
	return errors.Join(err, peer.stop())
}

// reads is a job for fio: random reads of bs all over a part of a disk.
type reads struct {
	bs          string
	off, length int64
	amount      int64 // bytes to read
}

// turn reads. A contender's n-th turn reads the same places as the others' n-th.
func (w reads) turn(server *child, uri string) func(context.Context) (trial, error) {
	seed := 0
	return func(ctx context.Context) (trial, error) {
		seed++
		return trial{server: server.pid(), work: func() (yield, error) {
			out, err := command(ctx, nil, "fio", append(fioJob(uri, "randread", w.bs, seed, w.off, w.length),
				"--io_size="+strconv.FormatInt(w.amount, 10), "--output-format=json")...)
			if err != nil {
				return yield{}, err
			}
			return readFio(out)
		}}, nil
	}
}

// fioJob is fio's arguments for random work with sixteen requests in flight.
func fioJob(uri, how, bs string, seed int, off, length int64) []string {
	return []string{"--name=job", "--ioengine=nbd", "--uri=" + uri, "--rw=" + how, "--bs=" + bs, "--iodepth=16",
		"--randseed=" + strconv.Itoa(seed), "--offset=" + strconv.FormatInt(off, 10), "--size=" + strconv.FormatInt(length, 10)}
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
