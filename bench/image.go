package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/strongroom-backup/strongroom/internal/testdisk"
)

// block is Strongroom's unit of deduplication, in bytes, and the granule of
// QEMU's dirty bitmaps.
const block = 64 << 10

// image is the disk that every contender backs up.
type image struct {
	*testdisk.Disk
	hash string
	data []bool // per block: anything in it but zeros
}

// openImage makes the disk, or takes the one made before for the same size and
// roots, and reads it once.
func openImage(opt options) (*image, error) {
	key := fnv.New32a()
	key.Write([]byte(strings.Join(opt.roots, "\n")))
	path := filepath.Join(opt.dir, fmt.Sprintf("disk-%dMiB-%08x.raw", opt.size>>20, key.Sum32()))
	img := &image{Disk: &testdisk.Disk{}}
	text, err := os.ReadFile(path + ".json")
	if errors.Is(err, os.ErrNotExist) {
		progress("make %s from files below %s", path, strings.Join(opt.roots, ", "))
		err = img.make(path, opt)
	} else if err == nil {
		err = json.Unmarshal(text, img.Disk)
	}
	if err != nil {
		return nil, fmt.Errorf("disk image (delete %s* to make it anew): %w", path, err)
	}
	return img, img.scan()
}

// make writes the image and then its description, which says that it is whole.
func (img *image) make(path string, opt options) (err error) {
	if img.Disk, err = testdisk.NewExt4(path, opt.size, opt.size/4*3, opt.roots...); err != nil {
		return err
	}
	text, err := json.Marshal(img.Disk)
	if err != nil {
		return err
	}
	return os.WriteFile(path+".json", text, 0o600)
}

// scan reads the image into the page cache, finds its data and hashes it.
func (img *image) scan() error {
	f, err := os.Open(img.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	hash, buf, zero := sha256.New(), make([]byte, block), make([]byte, block)
	for {
		n, err := io.ReadFull(f, buf)
		if err == io.EOF {
			img.hash = hex.EncodeToString(hash.Sum(nil))
			return nil
		}
		if err != nil && err != io.ErrUnexpectedEOF {
			return err
		}
		hash.Write(buf[:n])
		img.data = append(img.data, !bytes.Equal(buf[:n], zero[:n]))
	}
}

// dataBytes is how much of the disk is not zeros.
func (img *image) dataBytes() (n int64) {
	for _, d := range img.data {
		if d {
			n += block
		}
	}
	return n
}

// withData are the offsets of the blocks that are not zeros.
func (img *image) withData() (at []int64) {
	for i, d := range img.data {
		if d {
			at = append(at, int64(i)*block)
		}
	}
	return at
}

// dense is the longest part of the disk of which at least 99 of 100 blocks
// hold data, in bytes: where random reads are worth comparing.
func (img *image) dense() (off, length int64) {
	type low struct{ score, at int } // after the first at blocks the score was lower than ever before
	lows, score := []low{{0, 0}}, 0
	for i, d := range img.data {
		if d {
			score++
		} else {
			score -= 99
		}
		if score < lows[len(lows)-1].score {
			lows = append(lows, low{score, i + 1})
		}
		start := lows[sort.Search(len(lows), func(k int) bool { return lows[k].score <= score })].at
		if n := int64(i + 1 - start); n > length {
			off, length = int64(start), n
		}
	}
	return off * block, length * block
}
