package guest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/strongroom-backup/strongroom/internal/qmp"
	"github.com/strongroom-backup/strongroom/internal/qsd"
)

// Block is one entry of -blockdev: the options of a node.
type Block map[string]any

// File is a local image as node "disk".
func File(path, format string) Block {
	return Block{"node-name": "disk", "driver": format, "discard": "unmap",
		"file": Block{"driver": "file", "filename": path, "discard": "unmap"}}
}

// Export is an NBD export on a unix socket as node "disk". Requests wait two
// minutes for a server that has gone.
func Export(socket, name string) Block {
	return Block{"node-name": "disk", "driver": "nbd", "server": Block{"type": "unix", "path": socket},
		"export": name, "discard": "unmap", "reconnect-delay": 120}
}

// Machine is a running virtual machine with one disk, the node "disk" behind
// the device "vda".
type Machine struct {
	*Console
	// Blocks is its monitor, with the commands of a storage daemon.
	Blocks *qsd.Daemon

	cmd    *exec.Cmd
	stderr bytes.Buffer
	exited chan struct{}
}

// Boot starts a machine from a disk. Its sockets lie in dir, which must have a
// short name and hold no other machine. ctx bounds the start only.
func Boot(ctx context.Context, dir string, disk Block) (*Machine, error) {
	options, err := json.Marshal(disk)
	if err != nil {
		return nil, err
	}
	serial, monitor := filepath.Join(dir, "serial.sock"), filepath.Join(dir, "qmp.sock")
	line, err := net.Listen("unix", serial)
	if err != nil {
		return nil, err
	}
	defer line.Close()
	m := &Machine{exited: make(chan struct{})}
	m.cmd = exec.Command("qemu-system-x86_64",
		"-accel", "tcg,thread=single", "-machine", "pc", "-m", "192", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-chardev", "socket,id=serial,path="+serial, "-serial", "chardev:serial",
		"-qmp", "unix:"+monitor+",server=on,wait=off",
		"-blockdev", string(options), "-device", "virtio-blk-pci,id=vda,drive=disk,bootindex=0")
	m.cmd.Stderr = &m.stderr
	if err := m.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start qemu-system-x86_64 (package qemu-system-x86): %w", err)
	}
	go func() { m.cmd.Wait(); close(m.exited) }()
	if err := m.connect(ctx, line, monitor); err != nil {
		m.Kill()
		return nil, fmt.Errorf("start a machine: %w\n%s", err, m.stderr.String())
	}
	return m, nil
}

// connect takes the machine's serial line and opens its monitor.
func (m *Machine) connect(ctx context.Context, line net.Listener, monitor string) error {
	stop := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-m.exited:
			line.Close() // nobody will call
		case <-ctx.Done():
			line.Close()
		case <-stop:
		}
	})
	conn, err := line.Accept()
	close(stop)
	watch.Wait()
	if err != nil {
		return errors.Join(errors.New("it did not open its serial line"), ctx.Err())
	}
	m.Console = newConsole(conn)
	for {
		client, err := qmp.Dial(ctx, monitor)
		if err == nil {
			m.Blocks = &qsd.Daemon{QMP: client}
			return nil
		}
		select {
		case <-m.exited:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Do runs a QMP command whose answer is of no interest; args may be nil.
func (m *Machine) Do(ctx context.Context, command string, args any) error {
	return m.Blocks.QMP.Execute(ctx, command, args, nil)
}

// Halt shuts the guest down in good order and waits until QEMU has ended.
func (m *Machine) Halt(ctx context.Context) error {
	if err := m.Send("exec init 0"); err != nil {
		return err
	}
	select {
	case <-m.exited:
	case <-ctx.Done():
		return fmt.Errorf("the guest did not halt: %w", ctx.Err())
	}
	if !m.cmd.ProcessState.Success() {
		return fmt.Errorf("qemu-system-x86_64: %v\n%s", m.cmd.ProcessState, m.stderr.String())
	}
	return nil
}

// Kill ends QEMU with SIGKILL, as a compute node dies. It may have ended.
func (m *Machine) Kill() {
	_ = m.cmd.Process.Kill()
	<-m.exited
	if m.Blocks != nil {
		m.Blocks.QMP.Close()
	}
	if m.Console != nil {
		m.conn.Close()
	}
}

// run runs a program with text as its input; the error has all it printed.
func run(cmd *exec.Cmd, input string) error {
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

// Overlay makes a qcow2 file at path over the kept disk.
func Overlay(ctx context.Context, disk, path string) error {
	return run(exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", "qcow2", path), "")
}
