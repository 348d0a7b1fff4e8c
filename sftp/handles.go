package sftp

import (
	"encoding/binary"
	"fmt"
)

// handle is an open file, or an open folder when file is nil.
type handle struct {
	file  File
	name  string
	flags OpenFlags
	// Of a folder: whether "." and ".." were told, the last name told, and
	// whether there are no more.
	begun, done bool
	after       string
}

// handles is the table of a session. A client's handle is 8 bytes:
//
//	slot (4) | generation of the slot (4)
//
// so that a handle used after its CLOSE is not the next file's.
type handles struct {
	limit int
	slots []slot
	free  []uint32
	open  int
}

type slot struct {
	generation uint32
	h          *handle
}

const handleSize = 8

// full says why no more can be opened, before anything is.
func (t *handles) full() error {
	if t.open >= t.limit {
		return fmt.Errorf("%w: one connection may have %d", errManyHandles, t.limit)
	}
	return nil
}

// add opens h and returns its name for the client.
func (t *handles) add(h *handle) (id [handleSize]byte) {
	var i uint32
	if n := len(t.free); n > 0 {
		i = t.free[n-1]
		t.free = t.free[:n-1]
	} else {
		i = uint32(len(t.slots))
		t.slots = append(t.slots, slot{})
	}
	s := &t.slots[i]
	s.generation++
	s.h = h
	t.open++
	binary.BigEndian.PutUint32(id[:], i)
	binary.BigEndian.PutUint32(id[4:], s.generation)
	return id
}

func (t *handles) slot(id []byte) (uint32, bool) {
	if len(id) != handleSize {
		return 0, false
	}
	i := binary.BigEndian.Uint32(id)
	return i, uint64(i) < uint64(len(t.slots)) && t.slots[i].h != nil &&
		t.slots[i].generation == binary.BigEndian.Uint32(id[4:])
}

func (t *handles) get(id []byte) (*handle, error) {
	i, ok := t.slot(id)
	if !ok {
		return nil, errHandle
	}
	return t.slots[i].h, nil
}

// file is the open file of a handle.
func (t *handles) file(id []byte) (*handle, error) {
	h, err := t.get(id)
	if err == nil && h.file == nil {
		err = fmt.Errorf("%w: it is a folder's", errHandle)
	}
	return h, err
}

// remove takes a handle out of the table; closing its file is the caller's.
func (t *handles) remove(id []byte) (*handle, error) {
	i, ok := t.slot(id)
	if !ok {
		return nil, errHandle
	}
	h := t.slots[i].h
	t.slots[i].h = nil
	t.free = append(t.free, i)
	t.open--
	return h, nil
}

// drain takes all out.
func (t *handles) drain() (all []*handle) {
	for i := range t.slots {
		if h := t.slots[i].h; h != nil {
			all = append(all, h)
		}
	}
	t.slots, t.free, t.open = nil, nil, 0
	return all
}
