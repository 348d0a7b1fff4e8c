package volume

import "errors"

// Changes tells which parts of [off, off+n) of x differ from since, another
// image of the same disk, exactly by whole 64 KiB blocks. Bytes beyond the end
// of since are changed.
func (x *Image) Changes(since *Image, off, n int64, yield func(length int64, changed bool) bool) error {
	return errors.New("unfinished")
}
