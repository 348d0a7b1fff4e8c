package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/strongroom-backup/strongroom/internal/testdisk"
)

// The bars of row 9.
const (
	barUploaded   = 1.0 // × OpenSSH's internal-sftp, written
	barDownloaded = 0.9 // × OpenSSH's internal-sftp, read
)

// row9 writes the disk as a raw image through sshfs and reads it back, beside
// OpenSSH's server, which keeps it as a file.
func (b *bench) row9(ctx context.Context) error {
	peer, err := startSSHD(ctx, b.work)
	if err != nil {
		return err
	}
	err = b.contest(ctx, b.uploadContest(peer, "close", "conv=notrunc"))
	if err == nil {
		err = b.contest(ctx, b.uploadContest(peer, "fsync", "conv=notrunc,fsync"))
	}
	if err == nil {
		err = b.downloadContest(ctx, peer)
	}
	return errors.Join(err, peer.stop())
}

// compressTimeout is for a run that goes on already, and one more.
const compressTimeout = 5 * time.Minute

// rawName is the image's file name on every mount.
const rawName = diskName + ".raw"

// uploadContest writes the image, zeros and all, until the last write is
// answered (how "close") or durable ("fsync"). The store knows nothing of the
// disk; OpenSSH begins without the file.
func (b *bench) uploadContest(peer *sshd, how, conv string) contest {
	ours := func(commit bool) func(context.Context) (trial, error) {
		return b.freshSFTPTurn(func(ctx context.Context) (trial, error) {
			open, err := b.srv.beginSFTP(ctx, vmName)
			if err != nil {
				return trial{}, err
			}
			m, err := mountSSHFS(ctx, b.work, open.SFTP)
			if err != nil {
				return trial{}, err
			}
			return trial{server: b.srv.pid(), work: func() (yield, error) {
				if err := b.upload(ctx, m, conv); err != nil || !commit {
					return yield{amount: b.imageMiB()}, err
				}
				_, err := b.committed(ctx, open.session)
				return yield{amount: b.imageMiB(), stored: b.storeSize()}, err
			}, after: m.unmount}, nil
		})
	}
	return contest{row: 9, title: "raw image written through sshfs, to " + how, unit: "MiB/s", contenders: []contender{
		{name: "strongroom", ours: true, turn: ours(false)},
		{name: "strongroom, committed", note: "an image of the VM's disk", ours: true, free: true, turn: ours(true)},
		{name: "OpenSSH internal-sftp", note: "a file", bar: barUploaded, turn: func(ctx context.Context) (trial, error) {
			if err := os.RemoveAll(filepath.Join(peer.root, rawName)); err != nil {
				return trial{}, err
			}
			m, err := mountSSHFS(ctx, b.work, peer.login)
			if err != nil {
				return trial{}, err
			}
			return trial{server: 0, work: func() (yield, error) {
				return yield{amount: b.imageMiB()}, b.upload(ctx, m, conv)
			}, after: m.unmount}, nil
		}},
	}}
}

// freshSFTPTurn is a turn on an empty store that serves SFTP.
func (b *bench) freshSFTPTurn(turn func(context.Context) (trial, error)) func(context.Context) (trial, error) {
	return func(ctx context.Context) (trial, error) {
		if err := b.freshSFTPServer(ctx); err != nil {
			return trial{}, err
		}
		return turn(ctx)
	}
}

func (b *bench) freshSFTPServer(ctx context.Context) error {
	address, err := freeAddress()
	if err != nil {
		return err
	}
	return b.freshServer(ctx, "STRONGROOM_SFTP_LISTEN="+address)
}

func (b *bench) upload(ctx context.Context, m *mount, conv string) error {
	return quiet(ctx, nil, "dd", "if="+b.img.Path, "of="+filepath.Join(m.dir, rawName), "bs=1M", conv)
}

// downloadContest reads the image from both mounts, after the store has come to
// rest: what it stored raw is compressed.
func (b *bench) downloadContest(ctx context.Context, peer *sshd) error {
	job, err := b.uploaded(ctx)
	if err != nil {
		return err
	}
	if err := testdisk.Equal(b.img.Path, filepath.Join(peer.root, rawName)); err != nil {
		return err
	}
	read := func(login sftpLogin, server *child, file string, amount float64) func(context.Context) (trial, error) {
		return func(ctx context.Context) (trial, error) {
			m, err := mountSSHFS(ctx, b.work, login)
			if err != nil {
				return trial{}, err
			}
			t := trial{work: func() (yield, error) {
				return yield{amount: amount}, quiet(ctx, nil, "dd", "if="+filepath.Join(m.dir, file), "of=/dev/null", "bs=1M")
			}, after: m.unmount}
			if server != nil {
				t.server = server.pid()
			}
			return t, nil
		}
	}
	restored := filepath.Join("restore", vmName, b.point)
	return b.contest(ctx, contest{row: 9, title: "raw image read through sshfs", unit: "MiB/s", contenders: []contender{
		{name: "strongroom, raw", note: "made from packs", ours: true, turn: read(job.SFTP, b.srv.child, filepath.Join(restored, rawName), b.imageMiB())},
		{name: "strongroom, qcow2", note: "its data clusters only", ours: true, free: true, turn: read(job.SFTP, b.srv.child, filepath.Join(restored, diskName+".qcow2"), b.dataMiB())},
		{name: "OpenSSH internal-sftp", note: "a file", bar: barDownloaded, turn: read(peer.login, nil, rawName, b.imageMiB())},
	}})
}

// uploaded fills a fresh server with the disk by sshfs, waits until it is
// compressed, and opens another job, whose mount has the restore tree.
func (b *bench) uploaded(ctx context.Context) (job sftpSession, err error) {
	if err := b.freshSFTPServer(ctx); err != nil {
		return job, err
	}
	open, err := b.srv.beginSFTP(ctx, vmName)
	if err != nil {
		return job, err
	}
	m, err := mountSSHFS(ctx, b.work, open.SFTP)
	if err != nil {
		return job, err
	}
	if err := errors.Join(b.upload(ctx, m, "conv=notrunc"), m.unmount()); err != nil {
		return job, err
	}
	if _, err := b.committed(ctx, open.session); err != nil {
		return job, err
	}
	if err := b.compressed(ctx); err != nil {
		return job, err
	}
	return b.srv.beginSFTP(ctx, vmName)
}

// compressed waits until the store holds nothing that waits for compression; a
// run may have begun by itself.
func (b *bench) compressed(ctx context.Context) error {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, compressTimeout)
	defer cancel()
	for {
		err := b.srv.cli(ctx, new(struct{}), "compress", "--wait", "--json")
		if err == nil {
			progress("row 9: compressed after %.1f s", time.Since(start).Seconds())
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// imageMiB is the disk's size in MiB, holes included: the work of an upload.
func (b *bench) imageMiB() float64 { return float64(b.img.Size) / mib }
