package files

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/strongroom-backup/strongroom/sftp"
)

// open opens a file, or makes it.
func (f *folder) open(name string, flags sftp.OpenFlags, mode fs.FileMode, conn string, fixed bool) (sftp.File, error) {
	n, made, err := f.grab(name, flags, mode, conn)
	if err != nil {
		return nil, err
	}
	if flags.Write && (flags.Truncate || made) {
		err = n.begin()
	}
	if err == nil && flags.Truncate && !made {
		err = n.truncate(0)
	}
	if err != nil {
		return nil, errors.Join(err, f.release(n, flags.Write, true))
	}
	f.s.stats.Handles.Add(1)
	return &handle{n: n, name: name, conn: conn, flags: flags, fixed: fixed}, nil
}

// grab finds or makes a file and counts the one who opens it.
func (f *folder) grab(name string, flags sftp.OpenFlags, mode fs.FileMode, conn string) (n *node, made bool, err error) {
	if flags.Write || flags.Create || flags.Truncate {
		err = f.change()
	} else {
		err = f.look()
	}
	if err != nil {
		return nil, false, err
	}
	defer f.mu.Unlock()
	n = f.names[name]
	switch {
	case n != nil && flags.Create && flags.Exclusive:
		return nil, false, fmt.Errorf("%s: %w", name, fs.ErrExist)
	case n != nil:
	case f.isDir(name):
		return nil, false, fmt.Errorf("%s: %w", name, syscall.EISDIR)
	case !flags.Create:
		return nil, false, notExist(name)
	default:
		if n, err = f.create(name, mode); err != nil {
			return nil, false, err
		}
		made = true
	}
	if flags.Truncate && !flags.Write {
		err = n.writableBy(name, conn)
	}
	if err == nil {
		err = f.hold(n, name, conn, flags.Write)
	}
	return n, made, err
}
