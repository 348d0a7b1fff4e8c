package qcow2

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// TestStartsInGroups compares compressed clusters a few at a time.
func TestStartsInGroups(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q")
	newImage(t, path, "cluster_size=4k", 2<<20)
	change(t, path, []string{fmt.Sprintf("write -c -P 3 0 %d", 400<<10)})
	v := &victim{bytes: readFile(t, path)}
	v.q = open(t, path)
	var hosts []int64
	for i := range int64(100) {
		hosts = append(hosts, v.packedAt(i))
	}
	check := func(most int64) error {
		q, err := Open(bytes.NewReader(v.bytes), int64(len(v.bytes)))
		if err != nil {
			t.Fatal(err)
		}
		s := newStarts(q)
		s.most = most
		for _, host := range hosts {
			if !s.count(host) {
				return errors.New("too many")
			}
		}
		return s.check()
	}
	for _, most := range []int64{1, 2, 7, 99, 100, 101} {
		if err := check(most); err != nil {
			t.Errorf("%d at a time: %v", most, err)
		}
	}
	v.copyEntry(98, 99)
	hosts[99] = hosts[98]
	for _, most := range []int64{2, 7, 100} {
		if err := check(most); err == nil || !strings.Contains(err.Error(), "overlap") {
			t.Errorf("%d at a time: %v", most, err)
		}
	}
	if err := check(1); err == nil {
		t.Error("two begin at one byte")
	}
}

// TestCheckFileSize checks a file of the largest size, with data at its end, in
// little memory, and refuses a larger one.
func TestCheckFileSize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q")
	newImage(t, path, "cluster_size=512", 1<<20)
	change(t, path, []string{"write -P 1 0 512"})
	small := parseSectors(formatSectors(readFile(t, path)))
	q, err := Open(small, small.size)
	if err != nil {
		t.Fatal(err)
	}
	v := &victim{bytes: readFile(t, path), q: q}
	small.size = hostClustersMax*512 - 1
	v.u64(v.l2(0), uint64(small.size)/512*512|copied)
	small.content = parseSectors(formatSectors(v.bytes)).content
	before := allocated()
	q, err = Open(small, small.size)
	if err != nil {
		t.Fatal(err)
	}
	last := mappings(t, q)[0]
	if last != (Mapping{0, 511, Data, small.size - 511}) {
		t.Errorf("%+v", last)
	}
	if n := allocated() - before; n > 3<<20 {
		t.Errorf("%d bytes allocated", n)
	}
	small.size++
	if q, err = Open(small, small.size); err != nil {
		t.Fatal(err)
	}
	if err := q.Check(); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "the limit is") {
		t.Errorf("a larger file: %v", err)
	}
}
