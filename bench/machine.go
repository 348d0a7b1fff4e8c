package main

import (
	"bufio"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// machine is what the figures were measured on.
type machine struct {
	CPU        string   `json:"cpu"`
	Cores      int      `json:"cores"`
	Cache      string   `json:"cache"`
	Memory     int64    `json:"memory_bytes"`
	Kernel     string   `json:"kernel"`
	System     string   `json:"system"`
	FileSystem string   `json:"file_system"`
	LoadBefore string   `json:"load_before"`
	Versions   []string `json:"versions"`
}

func describeMachine(dir string, versions []string) machine {
	var u unix.Utsname
	_ = unix.Uname(&u)
	load, _, _ := strings.Cut(readText("/proc/loadavg"), "\n")
	return machine{
		CPU:        field("/proc/cpuinfo", "model name"),
		Cores:      runtime.NumCPU(),
		Cache:      field("/proc/cpuinfo", "cache size") + " per core",
		Memory:     memory("MemTotal"),
		Kernel:     unix.ByteSliceToString(u.Release[:]),
		System:     strings.Trim(field("/etc/os-release", "PRETTY_NAME"), `"`),
		FileSystem: mountOf(dir),
		LoadBefore: load,
		Versions:   versions,
	}
}

func readText(path string) string {
	text, _ := os.ReadFile(path)
	return string(text)
}

// field finds "name : value" or "name=value" in a file of such lines.
func field(path, name string) string {
	for line := range strings.Lines(readText(path)) {
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			key, value, ok = strings.Cut(line, "=")
		}
		if ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// memory is a value of /proc/meminfo in bytes; 0 when it cannot be read.
func memory(name string) int64 {
	n, _ := strconv.ParseInt(strings.TrimSuffix(field("/proc/meminfo", name), " kB"), 10, 64)
	return n << 10
}

// mountOf names the file system dir is on: type, device and mount options.
func mountOf(dir string) string {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	best, found := "", "unknown"
	for s := bufio.NewScanner(f); s.Scan(); {
		w := strings.Fields(s.Text())
		if len(w) < 4 || !within(dir, w[1]) || len(w[1]) < len(best) {
			continue
		}
		best, found = w[1], w[2]+" on "+w[0]+" ("+w[3]+")"
	}
	return found
}

func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}
