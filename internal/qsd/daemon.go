package qsd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/strongroom-backup/strongroom/internal/qmp"
)

// Daemon is a running qemu-storage-daemon.
type Daemon struct {
	QMP *qmp.Client
	// Socket is the unix socket on which the disks are exported over NBD, each
	// under its node name.
	Socket string

	cmd    *exec.Cmd
	output bytes.Buffer
	exited chan struct{}
}

// Start runs a daemon with its sockets in dir. ctx bounds the start only.
func Start(ctx context.Context, dir string) (*Daemon, error) {
	monitor := filepath.Join(dir, "qmp.sock")
	d := &Daemon{Socket: filepath.Join(dir, "disks.sock"), exited: make(chan struct{})}
	d.cmd = exec.Command("qemu-storage-daemon",
		"--chardev", "socket,id=m,server=on,wait=off,path="+monitor,
		"--monitor", "chardev=m",
		"--nbd-server", "addr.type=unix,addr.path="+d.Socket+",max-connections=16")
	d.cmd.Stdout, d.cmd.Stderr = &d.output, &d.output
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start qemu-storage-daemon (package qemu-system-common): %w", err)
	}
	go func() { d.cmd.Wait(); close(d.exited) }()
	if err := d.connect(ctx, monitor); err != nil {
		d.kill()
		return nil, fmt.Errorf("start qemu-storage-daemon: %w\n%s", err, d.output.Bytes())
	}
	return d, nil
}

// connect waits for the monitor's socket and for the NBD server behind it: the
// daemon works through its command line in order.
func (d *Daemon) connect(ctx context.Context, monitor string) (err error) {
	for {
		if d.QMP, err = qmp.Dial(ctx, monitor); err == nil {
			if _, err = os.Stat(d.Socket); err == nil {
				return nil
			}
			d.QMP.Close()
		}
		select {
		case <-d.exited:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Close makes the daemon quit and waits for it. Jobs under way are cancelled.
func (d *Daemon) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	// The daemon may go before it answers: only its end counts.
	_ = d.QMP.Execute(ctx, "quit", nil, nil)
	d.QMP.Close()
	select {
	case <-d.exited:
		return nil
	case <-ctx.Done():
		d.kill()
		return fmt.Errorf("qemu-storage-daemon did not quit and was killed:\n%s", d.output.Bytes())
	}
}

func (d *Daemon) kill() {
	_ = d.cmd.Process.Kill()
	<-d.exited
}

// Log is what the daemon has printed. Call it after Close.
func (d *Daemon) Log() string { return d.output.String() }
