package testdisk

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"path/filepath"
	"sort"
)

// maxFile keeps one file from being most of a small image, in bytes.
const maxFile = 32 << 20

// ErrTooFewFiles says that the directories hold less than is wanted.
var ErrTooFewFiles = errors.New("too few files")

type source struct {
	path string
	size int64
	rank uint64
}

// choose picks files below roots, in an order that mixes the roots and does
// not change between runs, until they hold want bytes.
func choose(roots []string, want int64) ([]source, error) {
	all := candidates(roots)
	sort.Slice(all, func(i, j int) bool {
		if all[i].rank != all[j].rank {
			return all[i].rank < all[j].rank
		}
		return all[i].path < all[j].path
	})
	var sum int64
	for i, s := range all {
		if sum += s.size; sum >= want {
			return all[:i+1], nil
		}
	}
	return nil, fmt.Errorf("testdisk: %w: those below %v hold %d bytes, %d are wanted: name more directories", ErrTooFewFiles, roots, sum, want)
}

// candidates lists regular files. What cannot be read is passed over: files of
// a living system come and go.
func candidates(roots []string) (all []source) {
	for _, root := range roots {
		_ = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return nil
			}
			info, err := e.Info()
			if err != nil || info.Size() == 0 || info.Size() > maxFile {
				return nil
			}
			h := fnv.New64a()
			h.Write([]byte(path))
			all = append(all, source{path, info.Size(), h.Sum64()})
			return nil
		})
	}
	return all
}
