package main

import (
	"strings"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/testdisk"
)

func TestDense(t *testing.T) {
	for _, c := range []struct {
		name       string
		data       string // . is a block of zeros
		off, count int64
	}{
		{"nothing", "....", 0, 0},
		{"all", "####", 0, 4},
		{"the longer of two parts", "##..#####.", 4, 5},
		{"a hole within one per cent", strings.Repeat("#", 99) + "." + strings.Repeat("#", 99) + "....##", 0, 200},
	} {
		img := &image{Disk: &testdisk.Disk{}}
		for _, r := range c.data {
			img.data = append(img.data, r == '#')
		}
		if off, n := img.dense(); off != c.off*block || n != c.count*block {
			t.Errorf("%s: got %d+%d, want %d+%d blocks", c.name, off/block, n/block, c.off, c.count)
		}
	}
}

func TestVerdict(t *testing.T) {
	speeds := func(v ...float64) (e entry) {
		for _, s := range v {
			e.Samples = append(e.Samples, sample{Speed: s})
		}
		return e
	}
	v := compare(speeds(10, 30, 20), speeds(10, 10, 40), 2)
	if v.Ratio != 2 || !v.held() || v.Rounds[2] != 0.5 {
		t.Errorf("got %+v", v)
	}
	if low := atMost("size", 116, 100, 1.15); low.held() {
		t.Errorf("held: %+v", low)
	}
}

func TestOptionsRefused(t *testing.T) {
	for _, args := range []string{"--rows 0", "--rows 12", "--rows x", "--size 1", "--size 1GiBB", "--rounds 0", "more"} {
		if _, err := parseOptions(append([]string{"--dir", t.TempDir()}, strings.Fields(args)...)); err == nil {
			t.Errorf("%s was taken", args)
		}
	}
}

func TestReadFio(t *testing.T) {
	y, err := readFio([]byte("fio: connected to NBD server\n" + `{"jobs":[{"read":{"total_ios":512,"runtime":250}}]}`))
	if err != nil || y.amount != 512 || y.seconds != 0.25 {
		t.Errorf("got %+v, %v", y, err)
	}
	for _, bad := range []string{"", "{}", `{"jobs":[{"read":{"runtime":0}}]}`, "no"} {
		if _, err := readFio([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
