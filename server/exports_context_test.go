package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/internal/nbdclient"
	"github.com/strongroom-backup/strongroom/server/api"
)

const blockSize = 64 << 10

// since opens an image with its difference to a point selected.
func (w *world) since(export string, contexts ...string) (*nbdclient.Conn, error) {
	return nbdclient.Dial(w.t.Context(), nbdclient.Target{Network: "unix", Address: w.info.NBD.Socket, Export: export, Contexts: contexts})
}

// dirty tells block for block what a context calls changed.
func dirty(c *nbdclient.Conn, name string) ([]bool, error) {
	blocks := make([]bool, (c.Size()+blockSize-1)/blockSize)
	err := c.Status(name, 0, c.Size(), func(off, n int64, flags uint32) error {
		if off%blockSize != 0 || flags > 1 {
			return fmt.Errorf("extent %d+%d flags %d", off, n, flags)
		}
		for b := off / blockSize; b*blockSize < off+n; b++ {
			blocks[b] = flags == 1
		}
		return nil
	})
	return blocks, err
}

// differ is what dirty should say, from the bytes.
func differ(x, since []byte) []bool {
	blocks := make([]bool, (len(x)+blockSize-1)/blockSize)
	for i := range blocks {
		off, end := i*blockSize, min((i+1)*blockSize, len(x))
		blocks[i] = end > len(since) || !bytes.Equal(x[off:end], since[off:end])
	}
	return blocks
}

// Every way to name a point of the VM works, through every spelling of the
// export; base:allocation goes on beside it.
func TestSinceNames(t *testing.T) {
	w := start(t)
	one := random(1, 4*mib)
	a := w.backup("vm1", "vda", one)
	two := slices.Clone(one)
	copy(two[mib:], random(2, 1000))
	b := w.backup("vm1", "vda", two)
	other := w.backup("vm2", "vda", two)
	second := w.backup("vm1", "vdb", two)
	want := differ(two, one)
	for _, export := range []string{"vm1/vda@" + b.Point, "vm1:vda@" + b.Point, "vm1/vda", "vm1:vda@latest"} {
		for _, point := range []string{a.Point, a.Point[:12], "latest~1", a.Time.UTC().Format(time.RFC3339Nano)} {
			name := sinceContext + point
			c, err := w.since(export, name)
			if err != nil {
				t.Errorf("%s %s: %v", export, name, err)
				continue
			}
			got, err := dirty(c, name)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%s %s: %v, %v; want %v", export, name, got, err, want)
			}
			data := int64(0)
			if err := c.Extents(func(e nbdclient.Extent) error { data += e.Length; return nil }); err != nil || data != c.Size() {
				t.Errorf("%s: extents of %d bytes, %v", export, data, err)
			}
			c.Close()
		}
	}
	for _, point := range []string{"", "x", other.Point, second.Point, "latest~2", "latest@latest", "/latest", "vm1@" + a.Point, "vm1/vda@" + a.Point, "1999-01-01T00:00:00Z", strings.Repeat("a", 4000)} {
		_, err := w.since("vm1/vda@"+b.Point, sinceContext+point)
		var missing *nbdclient.NoContextError
		if !errors.As(err, &missing) || missing.Context != sinceContext+point {
			t.Errorf("since %.40q: %v", point, err)
		}
	}
	open := w.open("vm1", api.DiskRequest{Disk: "vda", Size: 4 * mib})
	_, err := w.since(open.Disks[0].Export, sinceContext+a.Point)
	var missing *nbdclient.NoContextError
	if !errors.As(err, &missing) {
		t.Errorf("a session's disk: %v", err)
	}
}

func TestSinceIsListed(t *testing.T) {
	w := start(t)
	var points []string
	for i := range listedContextsMax + 3 {
		points = append(points, w.backup("vm1", "vda", random(byte(i), 4096)).Point)
	}
	w.backup("vm1", "vdb", random(1, 4096))
	w.backup("vm2", "vda", random(1, 4096))
	names, err := w.exports.Contexts(t.Context(), "vm1/vda@"+points[20])
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := len(points) - 1; len(want) < listedContextsMax; i-- {
		if i != 20 {
			want = append(want, sinceContext+points[i])
		}
	}
	if !slices.Equal(names, want) {
		t.Errorf("listed %v\n want %v", names, want)
	}
	open := w.open("vm1", api.DiskRequest{Disk: "vda", Size: mib})
	if names, err := w.exports.Contexts(t.Context(), open.Disks[0].Export); err != nil || names != nil {
		t.Errorf("contexts of a session's disk: %v, %v", names, err)
	}
	if _, err := w.exports.Contexts(t.Context(), "vm9/vda"); err == nil {
		t.Error("contexts of an export there is none of")
	}
}

// A point that goes while a client compares with it stays until the client goes.
func TestSinceIsPinned(t *testing.T) {
	w := start(t)
	one, two := random(1, mib), random(2, mib)
	a := w.backup("vm1", "vda", one)
	copy(two, one[:mib/2])
	w.backup("vm1", "vda", two)
	name := sinceContext + a.Point
	c, err := w.since("vm1/vda", name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.RemovePoint(t.Context(), a.Point, true); err != nil {
		t.Fatal(err)
	}
	if j := w.finish(w.client.GC(t.Context(), api.GCRequest{})); j.State != api.JobDone {
		t.Fatalf("%+v", j)
	}
	if got, err := dirty(c, name); err != nil || !slices.Equal(got, differ(two, one)) {
		t.Errorf("after the point was removed: %v, %v", got, err)
	}
	c.Close()
	var missing *nbdclient.NoContextError
	if _, err := w.since("vm1/vda", name); !errors.As(err, &missing) {
		t.Errorf("a removed point can be compared with: %v", err)
	}
	eventually(t, "the removed point is let go", func() bool { return !w.exports.vols.Pinned(a.Point) })
}

// TestSinceWithRealTools compares random pairs of images, byte for byte, with
// what QEMU, libnbd and our own client are told.
func TestSinceWithRealTools(t *testing.T) {
	seed := rand.Uint64()
	if s, err := strconv.ParseUint(os.Getenv("STRONGROOM_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("replay with STRONGROOM_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	w := start(t)
	contents := [][]byte{random(byte(seed), 3*mib+512)}
	for _, size := range []int{3*mib + 512, 5 * mib, 5 * mib, 2*mib + 10*512, 4 * mib} {
		contents = append(contents, mutate(rng, contents[len(contents)-1], size))
	}
	var points []string
	for _, p := range contents {
		points = append(points, w.backup("vm1", "vda", p).Point)
	}
	for i := range contents {
		for j := range contents {
			if i == j {
				continue
			}
			export, name := "vm1:vda@"+points[i], sinceContext+points[j]
			want := differ(contents[i], contents[j])
			c, err := w.since(export, name)
			if err != nil {
				t.Fatal(err)
			}
			got, err := dirty(c, name)
			c.Close()
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("point %d since %d: %v, %v; want %v", i, j, got, err, want)
			}
			if rng.IntN(3) == 0 {
				w.compareTools(export, name, len(contents[i]), want)
			}
		}
	}
}

// mutate changes a disk as guests do: grown or cut, parts rewritten with what
// they had, zeroed, filled.
func mutate(rng *rand.Rand, old []byte, size int) []byte {
	p := make([]byte, size)
	copy(p, old)
	for range 8 {
		off := rng.IntN(size)
		part := p[off:min(size, off+1+rng.IntN(300_000))]
		switch rng.IntN(3) {
		case 0:
			clear(part)
		case 1:
			copy(part, random(byte(rng.IntN(256)), len(part)))
		case 2:
			part[0] ^= 1
		}
	}
	return p
}

// compareTools asks nbdinfo and qemu-img.
func (w *world) compareTools(export, name string, size int, want []bool) {
	w.t.Helper()
	uri := "nbd+unix:///" + export + "?socket=" + w.info.NBD.Socket
	var ranges []struct {
		Offset, Length int64
		Type           uint32
	}
	w.tool(&ranges, "nbdinfo", "--json", "--map="+name, uri)
	got := make([]bool, len(want))
	for _, r := range ranges {
		for b := r.Offset / blockSize; b*blockSize < r.Offset+r.Length; b++ {
			got[b] = r.Type == 1
		}
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("nbdinfo on %s, %s: %v; want %v", export, name, got, want)
	}
	// QEMU takes the bitmap for its allocation: what is changed is no data to it.
	var parts []struct {
		Start, Length int64
		Data          bool
	}
	w.tool(&parts, "qemu-img", "map", "--output=json", "--image-opts",
		"driver=nbd,server.type=unix,server.path="+w.info.NBD.Socket+",export="+export+",x-dirty-bitmap="+name)
	clear(got)
	for _, r := range parts {
		for b := r.Start / blockSize; b*blockSize < r.Start+r.Length; b++ {
			got[b] = !r.Data
		}
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("qemu-img map of %s, %s: %v; want %v", export, name, got, want)
	}
	var list struct {
		Exports []struct {
			Contexts []string
			Size     int `json:"export-size"`
		}
	}
	w.tool(&list, "nbdinfo", "--json", uri)
	if len(list.Exports) != 1 || list.Exports[0].Size != size || !slices.Contains(list.Exports[0].Contexts, name) || !slices.Contains(list.Exports[0].Contexts, "base:allocation") {
		w.t.Errorf("nbdinfo of %s: %+v", export, list)
	}
}

func (w *world) tool(into any, name string, args ...string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, into)
	}
	if err != nil {
		w.t.Errorf("%s %v: %v\n%s%s", name, args, err, out, stderr.String())
	}
}
