package inplace

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseDirty(t *testing.T) {
	const map3 = `[{"offset":0,"length":65536,"type":0,"description":"clean"},
		{"offset":65536,"length":131072,"type":1,"description":"dirty"},
		{ "offset": 196608, "length": 4096, "type": 0, "description": "clean"}]` + "\n"
	const imageio = ` [{"start":0,"length":65536,"zero":false,"dirty":true},{"start":65536,"length":131072,"zero":true,"hole":true,"dirty":false}]`
	for text, want := range map[string]Dirty{
		map3:                      {Size: 200704, End: 196608},
		imageio:                   {Size: 196608, End: 65536},
		"65536 131072\n":          {End: 196608},
		"\n 8192\t1 \r\n0 4096\n": {End: 8193},
		"0 0\n":                   {},
	} {
		d, err := ParseDirty(strings.NewReader(text))
		if err != nil || d.Size != want.Size || d.End != want.End {
			t.Errorf("%q: %+v, %v", text, d, err)
		}
	}
	d, _ := ParseDirty(strings.NewReader("\n 8192\t1 \r\n0 4096\n"))
	if got := d.Ranges.spans(); !slices.Equal(got, []span{{0, 4096}, {8192, 12288}}) {
		t.Errorf("ranges %v", got)
	}
}

// Whatever could be misunderstood is refused.
func TestHostileDirty(t *testing.T) {
	nbd := func(off, n, kind int, text string) string {
		return fmt.Sprintf(`{"offset":%d,"length":%d,"type":%d,"description":%q}`, off, n, kind, text)
	}
	for name, text := range map[string]string{
		"empty":                 "",
		"blank":                 " \n\n",
		"no map":                "[]",
		"cut JSON":              "[" + nbd(0, 65536, 1, "dirty"),
		"cut entry":             "[" + nbd(0, 65536, 1, "dirty")[:20],
		"something follows":     "[" + nbd(0, 65536, 1, "dirty") + "] []",
		"an object":             nbd(0, 65536, 1, "dirty"),
		"another context":       "[" + nbd(0, 65536, 0, "data") + "]",
		"zeros":                 "[" + nbd(0, 65536, 3, "hole,zero") + "]",
		"type and words differ": "[" + nbd(0, 65536, 0, "dirty") + "]",
		"no words":              `[{"offset":0,"length":65536,"type":1}]`,
		"imageio without dirty": `[{"start":0,"length":65536,"zero":true}]`,
		"both kinds":            `[{"start":0,"offset":0,"length":65536,"dirty":true}]`,
		"unknown field":         `[{"start":0,"length":65536,"dirty":true,"clean":true}]`,
		"a gap":                 "[" + nbd(0, 65536, 1, "dirty") + "," + nbd(131072, 65536, 0, "clean") + "]",
		"not from the start":    "[" + nbd(65536, 65536, 1, "dirty") + "]",
		"overlap":               "[" + nbd(0, 65536, 1, "dirty") + "," + nbd(0, 65536, 0, "clean") + "]",
		"negative":              "[" + nbd(0, -1, 1, "dirty") + "]",
		"no length":             "[" + nbd(0, 0, 1, "dirty") + "]",
		"too far":               `[{"offset":0,"length":9223372036854775807,"type":1,"description":"dirty"}]`,
		"a fraction":            `[{"start":0,"length":1.5,"dirty":true}]`,
		"long":                  `[{"offset":0,"length":1,"type":1,"description":"` + strings.Repeat("dirty", 1<<20) + `"}]`,
		"deep":                  strings.Repeat("[", 1<<20),
		"many spaces":           "[" + strings.Repeat(" ", 1<<20) + "]",
		"one number":            "65536\n",
		"three numbers":         "0 65536 dirty\n",
		"hex":                   "0x0 0x1000\n",
		"signs":                 "0 -4096\n",
		"large":                 "0 99999999999999999999\n",
		"beyond all":            fmt.Sprintf("%d 2\n", int64(sizeMax)-1),
		"wraps":                 "9223372036854775807 9223372036854775807\n",
		"cut line":              "0 4096\n65536 13",
		"a long line":           strings.Repeat("1", 1<<20) + " 1\n",
		"comma":                 "0,4096\n",
		"a program":             "\x7fELF\x02\x01\x01",
	} {
		if d, err := ParseDirty(strings.NewReader(text)); !errors.Is(err, ErrDirty) {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}

func TestUnreadableDirty(t *testing.T) {
	broken := errors.New("broken")
	for _, text := range []string{"", "0 4096\n", "["} {
		if _, err := ParseDirty(io.MultiReader(strings.NewReader(text), &failingReader{broken})); !errors.Is(err, broken) {
			t.Errorf("after %q: %v", text, err)
		}
	}
}

type failingReader struct{ err error }

func (f *failingReader) Read([]byte) (int, error) { return 0, f.err }

// FuzzParseDirty: no panic, and what is accepted lies on a disk.
func FuzzParseDirty(f *testing.F) {
	f.Add(`[{"offset":0,"length":65536,"type":0,"description":"clean"},{"offset":65536,"length":4096,"type":1,"description":"dirty"}]`)
	f.Add(`[{"start":0,"length":65536,"zero":false,"dirty":true}]`)
	f.Add("0 4096\n65536 131072\n")
	f.Add("0 0\n")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseDirty(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, s := range d.Ranges.spans() {
			if s.off < 0 || s.end <= s.off || s.end > sizeMax {
				t.Fatalf("range %v", s)
			}
		}
		if d.Size < 0 || d.End > sizeMax || d.Size > 0 && d.End > d.Size {
			t.Fatalf("%+v", d)
		}
	})
}

// What nbdinfo prints of a real bitmap is what is read of it over NBD.
func TestBitmapOfQEMU(t *testing.T) {
	dir := t.TempDir()
	image, socket := filepath.Join(dir, "d.qcow2"), filepath.Join(dir, "s")
	for _, args := range [][]string{
		{"qemu-img", "create", "-q", "-f", "qcow2", image, "32M"},
		{"qemu-img", "bitmap", "--add", "-g", "65536", image, "b1"},
		{"qemu-io", "-f", "qcow2", "-c", "write 1M 100k", "-c", "write 31M 4k", image},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	serve(t, socket, "qemu-nbd", "-t", "-e", "4", "-f", "qcow2", "-x", "vda", "-B", "b1", "-k", socket, image)
	uri := "nbd+unix:///vda?socket=" + socket
	over, err := ReadBitmap(t.Context(), uri, "b1")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("nbdinfo", "--json", "--map=qemu:dirty-bitmap:b1", uri).Output()
	if err != nil {
		t.Fatal(err)
	}
	file, err := ParseDirty(strings.NewReader(string(out)))
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	want := []span{{1 << 20, 1<<20 + 128<<10}, {31 << 20, 31<<20 + 64<<10}}
	for _, d := range []*Dirty{over, file} {
		if !slices.Equal(d.Ranges.spans(), want) || d.Size != 32<<20 {
			t.Errorf("%v of %d bytes", d.Ranges.spans(), d.Size)
		}
	}
	if _, err := ReadBitmap(t.Context(), uri, "b2"); !errors.Is(err, ErrDirty) || !strings.Contains(err.Error(), "b2") {
		t.Errorf("no such bitmap: %v", err)
	}
	// The map of its holes is no dirty map.
	if out, err = exec.Command("nbdinfo", "--json", "--map", uri).Output(); err != nil {
		t.Fatal(err)
	}
	if _, err := ParseDirty(strings.NewReader(string(out))); !errors.Is(err, ErrDirty) {
		t.Errorf("a map of holes: %v", err)
	}
}

// A set never loses a byte, however small it must be kept.
func TestRanges(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 40))
	for _, most := range []int{4, 20, 1000} {
		const pages = 4096
		r := NewRanges(pages*pieceBytes - 100)
		r.max = most
		want := make([]bool, pages)
		for range 300 {
			off := rng.Int64N(r.size)
			n := rng.Int64N(20_000)
			r.Add(off, n)
			for p := off / pieceBytes; n > 0 && p*pieceBytes < min(off+n, r.size); p++ {
				want[p] = true
			}
			if r.Len() > most {
				t.Fatalf("%d ranges, at most %d", r.Len(), most)
			}
		}
		r.Add(-5, 10)
		r.Add(r.size+1, 10)
		r.Add(0, -1)
		got := make([]bool, pages)
		last := int64(-1)
		for _, s := range r.spans() {
			if s.off <= last || s.end <= s.off || s.end > r.size {
				t.Fatalf("range %v after %d", s, last)
			}
			last = s.end
			for p := s.off / pieceBytes; p*pieceBytes < s.end; p++ {
				got[p] = true
			}
		}
		extra := 0
		for p := range want {
			if want[p] && !got[p] {
				t.Fatalf("page %d is lost", p)
			}
			if got[p] && !want[p] && p > 0 {
				extra++
			}
		}
		if most == 1000 && extra > 0 {
			t.Errorf("%d pages too many", extra)
		}
	}
}
