package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// logTail is how much of the server's log an error shows, in bytes.
const logTail = 4 << 10

// mib is the unit of most speeds here.
const mib = 1 << 20

// bench is a run: the disk, the work directory, and what rows leave behind for
// later rows (fixtures).
type bench struct {
	opt    options
	img    *image
	work   string // short, for unix sockets; removed by close
	binary string
	report report

	srv    *server // running, or nil
	point  string  // of the whole disk on srv; empty: none committed yet
	qcow2  string  // the packed copy; empty: not made yet
	restic repository
	borg   repository // the lz4 one, which row 4 reads
	packed map[string]bool
}

func newBench(ctx context.Context, opt options) (*bench, error) {
	if err := checkSpace(opt.dir, opt.size); err != nil {
		return nil, err
	}
	img, err := openImage(opt)
	if err != nil {
		return nil, err
	}
	b := &bench{opt: opt, img: img, packed: map[string]bool{}}
	if b.work, err = os.MkdirTemp(opt.dir, "run-"); err != nil {
		return nil, err
	}
	b.restic, b.borg = restic(b.work, img.Path), borg(b.work, img.Path, "lz4")
	b.report.Image = img.describe()
	b.report.Rounds, b.report.Started = opt.rounds, time.Now().UTC()
	progress("touch memory")
	if err := errors.Join(b.build(ctx), touchMemory(opt.size)); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// build makes the binary that is measured, as releases are made.
func (b *bench) build(ctx context.Context) error {
	b.binary = b.opt.binary
	if b.binary != "" {
		return nil
	}
	b.binary = filepath.Join(b.work, "strongroom")
	_, err := command(ctx, []string{"CGO_ENABLED=0"}, "go", "build", "-o", b.binary, "github.com/strongroom-backup/strongroom/cmd/strongroom")
	return err
}

// close ends the server and removes everything but the cached disk.
func (b *bench) close() error {
	err := b.stopServer()
	if b.opt.keep {
		progress("kept %s", b.work)
		return err
	}
	return errors.Join(err, os.RemoveAll(b.work))
}

// rows measures the rows asked for. The third comes after the fifth: it needs
// the space of what the others leave behind.
func (b *bench) rows(ctx context.Context) error {
	rows := []struct {
		number int
		run    func(context.Context) error
	}{{1, b.row1}, {2, b.row2}, {4, b.row4}, {5, b.row5}, {3, b.row3}, {6, b.row6}, {7, b.row7}, {8, b.row8}, {9, b.row9}, {10, b.row10}, {11, b.row11}}
	for _, r := range rows {
		if !b.opt.rows[r.number] {
			continue
		}
		if err := r.run(ctx); err != nil {
			return b.explain(err)
		}
	}
	return nil
}

// explain adds what the server said last to an error, and ends it.
func (b *bench) explain(err error) error {
	s := b.srv
	if s == nil {
		return err
	}
	err = errors.Join(err, b.stopServer())
	said := s.output.String()
	return fmt.Errorf("%w\nthe server's log ends:\n%s", err, said[max(0, len(said)-logTail):])
}

// contest holds c and keeps the result.
func (b *bench) contest(ctx context.Context, c contest) error {
	r, err := c.hold(ctx, b.opt.rounds)
	if err != nil {
		return err
	}
	b.report.Results = append(b.report.Results, r)
	return nil
}

// freshServer starts a server on an empty data directory in place of the one
// that runs. env holds settings, NAME=value, that are not the defaults.
func (b *bench) freshServer(ctx context.Context, env ...string) error {
	data := filepath.Join(b.work, "data")
	if err := errors.Join(b.stopServer(), os.RemoveAll(data)); err != nil {
		return err
	}
	s, err := startServer(ctx, b.binary, data, env...)
	if err == nil {
		b.srv = s
	}
	return err
}

func (b *bench) stopServer() error {
	s := b.srv
	b.srv, b.point = nil, ""
	if s == nil {
		return nil
	}
	return s.stop()
}

// stored makes sure that the server runs and has the whole disk.
func (b *bench) stored(ctx context.Context) error {
	if b.point != "" {
		return nil
	}
	if err := b.freshServer(ctx); err != nil {
		return err
	}
	_, err := b.pushConvert(ctx)
	return err
}

// pushConvert makes one full backup with qemu-img, from start to commit.
func (b *bench) pushConvert(ctx context.Context) (receipt, error) {
	open, err := b.srv.begin(ctx, vmName, b.img.Size, "full")
	if err != nil {
		return receipt{}, err
	}
	if err := convertToNBD(ctx, b.img.Path, open.Disks[0].Unix); err != nil {
		return receipt{}, err
	}
	return b.committed(ctx, open)
}

// committed commits and remembers the point.
func (b *bench) committed(ctx context.Context, open session) (receipt, error) {
	r, err := b.srv.commit(ctx, open)
	if err == nil {
		b.point = r.Point
	}
	return r, err
}

// packedDisk makes sure that the qcow2 copy is there.
func (b *bench) packedDisk(ctx context.Context) error {
	if b.qcow2 != "" {
		return nil
	}
	b.qcow2 = filepath.Join(b.work, "disk.qcow2")
	return convertToQcow2(ctx, b.img.Path, b.qcow2)
}

// filled makes sure that a repository holds the disk.
func (b *bench) filled(ctx context.Context, r repository) error {
	if b.packed[r.dir] {
		return nil
	}
	b.packed[r.dir] = true
	if err := r.fresh(ctx); err != nil {
		return err
	}
	return r.run(ctx, r.backup)
}

// dataMiB is the disk's data in MiB: the work of a backup.
func (b *bench) dataMiB() float64 { return float64(b.img.dataBytes()) / mib }

// progress tells what goes on, on stderr.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

// sizeOf is what the files below a path take on disk, in bytes.
func sizeOf(path string) (n int64) {
	_ = filepath.WalkDir(path, func(p string, _ os.DirEntry, err error) error {
		if err == nil {
			n += allocated(p)
		}
		return nil
	})
	return n
}

// allocated is what one file takes on disk, in bytes; 0 when it is gone.
func allocated(path string) int64 {
	var s unix.Stat_t
	if unix.Lstat(path, &s) != nil {
		return 0
	}
	return s.Blocks * 512
}
