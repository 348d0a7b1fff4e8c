package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/strongroom-backup/strongroom/internal/units"
)

// options is what the user may choose.
type options struct {
	size   int64 // bytes of the disk
	rounds int
	rows   map[int]bool
	dir    string   // cache and work directory
	roots  []string // where the disk's files come from
	binary string   // strongroom to measure; empty: built from this tree
	json   string   // file for the report; empty: none
	keep   bool
}

// rowsMax is the number of rows there are.
const rowsMax = 11

func parseOptions(args []string) (options, error) {
	var o options
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	size := set.String("size", "4GiB", "size of the disk; three quarters of it are filled with files")
	rows := set.String("rows", "1,2,3,4,5,6,7,8,9,10,11", "rows to measure")
	roots := set.String("roots", strings.Join(defaultRoots(), ","), "directories the disk's files are taken from; none inside another")
	set.IntVar(&o.rounds, "rounds", 3, "measured turns of each contender, at least 3 for figures to publish")
	set.StringVar(&o.dir, "dir", defaultDir(), "directory for the cached disk and everything written")
	set.StringVar(&o.binary, "strongroom", "", "binary to measure (default: built from this tree)")
	set.StringVar(&o.json, "json", "", "also write the report to this file, as JSON")
	set.BoolVar(&o.keep, "keep", false, "keep the work directory")
	if err := set.Parse(args); err != nil {
		return o, err
	}
	if set.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", set.Arg(0))
	}
	return o, o.validate(*size, *rows, *roots)
}

func (o *options) validate(size, rows, roots string) error {
	n, err := units.ParseSize(size)
	if err != nil {
		return fmt.Errorf("--size: %w", err)
	}
	if n < 256*units.MiB || n%units.MiB != 0 {
		return fmt.Errorf("--size %v: want whole MiB, at least 256 MiB", n)
	}
	if o.rounds < 1 || o.rounds > 100 {
		return fmt.Errorf("--rounds %d: want 1 to 100", o.rounds)
	}
	o.size, o.roots, o.rows = int64(n), strings.Split(roots, ","), map[int]bool{}
	for _, f := range strings.Split(rows, ",") {
		var row int
		if _, err := fmt.Sscanf(f, "%d", &row); err != nil || row < 1 || row > rowsMax {
			return fmt.Errorf("--rows %q: want numbers from 1 to %d, separated by commas", rows, rowsMax)
		}
		o.rows[row] = true
	}
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return err
	}
	return os.MkdirAll(o.dir, 0o700)
}

func defaultDir() string {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	return filepath.Join(cache, "strongroom-bench")
}

// defaultRoots are the directories of many and different files that this
// machine has.
func defaultRoots() (roots []string) {
	home, _ := os.UserHomeDir()
	for _, r := range []string{
		"/usr", "/opt",
		filepath.Join(home, "go/pkg/mod"), filepath.Join(home, ".npm"),
		filepath.Join(home, ".cargo"), filepath.Join(home, ".rustup"), filepath.Join(home, ".pyenv"),
	} {
		if info, err := os.Stat(r); err == nil && info.IsDir() {
			roots = append(roots, r)
		}
	}
	return roots
}
