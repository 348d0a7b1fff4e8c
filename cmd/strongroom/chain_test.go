package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/server/api"
)

// tree reads "a b<a c<b": images with their parents, those without are fulls.
func tree(text string) (images []api.ChainImage) {
	for _, word := range strings.Fields(text) {
		point, parent, inc := strings.Cut(word, "<")
		im := api.ChainImage{Point: point, Parent: parent, Mode: "full"}
		if inc {
			im.Mode = "incremental"
		}
		images = append(images, im)
	}
	return images
}

func TestDrawTree(t *testing.T) {
	for _, x := range []struct{ images, want string }{
		{"", ""},
		{"a", "* a"},
		{"a b<a c<b", "* a|o b|o c"},
		{"a b c<b", "* a||* b|o c"},
		{"a b<a c<b d<a", "* a|%-o b|% o c|o d"},
		{"a b<a c<a d<b", "* a|%-o c|o b|o d"},
		{"a b<a c<a d<a", "* a|%-o b|%-o c|o d"},
		{"a b<a c<b d<b e<c f<a", "* a|%-o b|% %-o d|% o c|% o e|o f"},
		{"a b<gone c<b", "* a||o b|o c"},                         // its parent was deleted
		{"a b<a c<a d<c e<a f<d", "* a|%-o b|%-o e|o c|o d|o f"}, // the newest is not the newest child's
		{"b<a a", "o b||* a"},                                    // not in order: nothing is lost
	} {
		var lines []string
		for _, row := range drawTree(tree(x.images), true) {
			if row.image == nil {
				lines = append(lines, "")
			} else {
				lines = append(lines, row.art+row.image.Point)
			}
		}
		if got := strings.ReplaceAll(strings.Join(lines, "\n"), "|", "%"); got != strings.ReplaceAll(x.want, "|", "\n") {
			t.Errorf("%s:\n%s\nwant\n%s", x.images, got, strings.ReplaceAll(x.want, "|", "\n"))
		}
	}
}

// Any tree is drawn with each image once and below its parent; one that is very
// long needs no deep stack.
func TestDrawAnyTree(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("STRONGROOM_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	t.Logf("seed: STRONGROOM_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 200 {
		var images []api.ChainImage
		for i := range 1 + rng.IntN(60) {
			im := api.ChainImage{Point: fmt.Sprint(i), Mode: "full"}
			if i > 0 && rng.IntN(8) > 0 {
				im.Parent, im.Mode = fmt.Sprint(rng.IntN(i)), "incremental"
			}
			images = append(images, im)
		}
		drawn := map[string]int{}
		for i, row := range drawTree(images, false) {
			if row.image == nil {
				continue
			}
			if _, twice := drawn[row.image.Point]; twice {
				t.Fatalf("%s is drawn twice", row.image.Point)
			}
			drawn[row.image.Point] = i
			if _, above := drawn[row.image.Parent]; row.image.Parent != "" && !above {
				t.Fatalf("%s is drawn above its parent", row.image.Point)
			}
		}
		if len(drawn) != len(images) {
			t.Fatalf("%d of %d images are drawn", len(drawn), len(images))
		}
	}
	long := tree("0")
	for i := 1; i < 100_000; i++ {
		long = append(long, api.ChainImage{Point: fmt.Sprint(i), Parent: fmt.Sprint(i - 1)})
	}
	if rows := drawTree(long, false); len(rows) != len(long) || rows[len(rows)-1].art != "○ " {
		t.Error("a long chain is not a straight column")
	}
}

func TestLocale(t *testing.T) {
	for _, x := range []struct {
		env  map[string]string
		want bool
	}{
		{nil, false},
		{map[string]string{"LANG": "de_AT.UTF-8"}, true},
		{map[string]string{"LANG": "C.utf8"}, true},
		{map[string]string{"LANG": "de_AT.UTF-8", "LC_ALL": "C"}, false},
		{map[string]string{"LANG": "C", "LC_CTYPE": "en_GB.UTF-8"}, true},
	} {
		if got := localeIsUTF8(func(name string) string { return x.env[name] }); got != x.want {
			t.Errorf("%v: %v", x.env, got)
		}
	}
}

func TestVMDisk(t *testing.T) {
	for text, want := range map[string]string{
		"vm1/vda": "vm1 vda", "vm1:vda": "vm1 vda", "vm1": "", "/vda": "", "vm1/": "", "vm1/vda@latest": "", "": "",
	} {
		vm, disk, err := vmDisk(text)
		if (err == nil) != (want != "") || err == nil && vm+" "+disk != want {
			t.Errorf("%q: %q %q %v", text, vm, disk, err)
		}
	}
}
