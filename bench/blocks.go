package main

import (
	"errors"
	"os"
)

// eachBlock calls change for every block of a file that holds data, and writes
// back those it says it changed.
func eachBlock(path string, data []bool, change func(i int, p []byte) bool) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	p := make([]byte, block)
	for i, d := range data {
		if !d {
			continue
		}
		if _, err := f.ReadAt(p, int64(i)*block); err != nil {
			return err
		}
		if !change(i, p) {
			continue
		}
		if _, err := f.WriteAt(p, int64(i)*block); err != nil {
			return err
		}
	}
	return nil
}
