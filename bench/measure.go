package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// clockTicks is the kernel's USER_HZ: 100 on every Linux that Go runs on.
const clockTicks = 100

// trial is one turn of a contender.
type trial struct {
	server int                   // process id of the server at work; 0: none
	work   func() (yield, error) // what the clock runs for
	after  func() error          // ends clients that outlive work; may be nil
}

// yield is what a turn did.
type yield struct {
	amount  float64 // of the contest's unit; speed is amount per second
	seconds float64 // by the client's own clock, which leaves its start out; 0: by ours
	stored  int64   // bytes on disk afterwards; 0: does not apply
}

// sample is what a turn cost.
type sample struct {
	Seconds    float64 `json:"seconds"`
	Speed      float64 `json:"speed"`
	ClientCPU  float64 `json:"client_cpu_seconds"`
	ServerCPU  float64 `json:"server_cpu_seconds"`
	OtherCPU   float64 `json:"other_cpu_seconds"` // of everything else on the machine, the kernel's own threads included
	ServerPeak int64   `json:"server_peak_rss_bytes"`
	Stored     int64   `json:"stored_bytes,omitempty"`
}

// measure runs a trial from a quiet start: what was written before is on disk.
func measure(t trial) (sample, error) {
	unix.Sync()
	resetPeak(t.server)
	busy, server, client := machineCPU(), processCPU(t.server), childrenCPU()
	start := time.Now()
	y, err := t.work()
	seconds := time.Since(start).Seconds()
	if t.after != nil {
		err = errors.Join(err, t.after())
	}
	if err != nil {
		return sample{}, err
	}
	if y.seconds > 0 {
		seconds = y.seconds
	}
	s := sample{Seconds: seconds, Speed: y.amount / seconds, Stored: y.stored}
	s.ServerCPU = processCPU(t.server) - server
	s.ClientCPU = childrenCPU() - client
	s.OtherCPU = max(machineCPU()-busy-s.ServerCPU-s.ClientCPU, 0)
	s.ServerPeak = processPeak(t.server)
	return s, nil
}

// childrenCPU is the user and system time of all children that have ended, in
// seconds.
func childrenCPU() float64 {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &r); err != nil {
		return 0
	}
	return (time.Duration(r.Utime.Nano()) + time.Duration(r.Stime.Nano())).Seconds()
}

// processCPU is a running process's user and system time, in seconds.
func processCPU(pid int) float64 {
	_, after, _ := strings.Cut(readText(fmt.Sprintf("/proc/%d/stat", pid)), ") ")
	if w := strings.Fields(after); len(w) > 12 {
		return ticks(w[11]) + ticks(w[12])
	}
	return 0
}

// machineCPU is the time all cores together have not been idle, in seconds.
func machineCPU() (busy float64) {
	line, _, _ := strings.Cut(readText("/proc/stat"), "\n")
	for i, w := range strings.Fields(line) {
		if i > 0 && i < 9 && i != 4 && i != 5 { // 4 is idle, 5 waits for disks
			busy += ticks(w)
		}
	}
	return busy
}

func ticks(text string) float64 {
	n, _ := strconv.ParseFloat(text, 64)
	return n / clockTicks
}

// resetPeak makes the kernel forget the most memory a process has had.
func resetPeak(pid int) {
	if pid != 0 {
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
	}
}

// processPeak is the most resident memory since resetPeak, in bytes.
func processPeak(pid int) int64 {
	if pid == 0 {
		return 0
	}
	n, _ := strconv.ParseInt(strings.TrimSuffix(field(fmt.Sprintf("/proc/%d/status", pid), "VmHWM"), " kB"), 10, 64)
	return n << 10
}

// terminate asks a process to end.
func terminate(p *os.Process) { _ = p.Signal(syscall.SIGTERM) }
