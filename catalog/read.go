package catalog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// place is where a point's record is kept.
type place struct {
	time    time.Time
	vm      string
	trashed bool
}

// key is that of the point's record.
func (p place) key() []byte {
	k := pointKey(p.vm, p.time)
	if p.trashed {
		k[0] = keyTrashed
	}
	return k
}

func appendPlace(b []byte, p place) []byte {
	b = appendTime(b, p.time)
	if p.trashed {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	return append(b, p.vm...)
}

func decodePlace(b []byte) (place, error) {
	d := decoder{b: b}
	p := place{time: d.time(), trashed: d.size(1) == 1}
	p.vm = string(d.b)
	if d.bad {
		return p, errDecode
	}
	return p, nil
}

// damaged is the error for a value that cannot be decoded.
func damaged(what string, err error) error {
	return fmt.Errorf("the catalog's record of %s is %w: %w; stop the server, move the catalog directory away "+
		"and start again: it is rebuilt from the metadata log", what, ErrCorrupt, err)
}

// missing tells a lookup that found nothing from one that failed.
func missing(err error, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	if errors.Is(err, pebble.ErrNotFound) {
		return fmt.Errorf("%s %w", what, ErrNotFound)
	}
	return unreadable(what, err)
}

// unreadable is the error for a value the database failed to give.
func unreadable(what string, err error) error {
	if pebble.IsCorruptionError(err) {
		first, _, _ := strings.Cut(err.Error(), "\n") // the rest is for Pebble's own use
		return damaged(what, errors.New(first))
	}
	return fmt.Errorf("read %s: %w", what, err)
}

// getPlace returns ErrNotFound for a point that is not here.
func getPlace(r pebble.Reader, id string) (place, error) {
	b, err := get(r, pointVMKey(id))
	if err != nil {
		return place{}, missing(err, "point %s", id)
	}
	at, err := decodePlace(b)
	if err != nil {
		return at, damaged("point "+id, err)
	}
	return at, nil
}

func getPoint(r pebble.Reader, id string) (at place, p Point, err error) {
	if at, err = getPlace(r, id); err != nil {
		return at, p, err
	}
	p, err = pointAt(r, id, at)
	return at, p, err
}

func pointAt(r pebble.Reader, id string, at place) (Point, error) {
	b, err := get(r, at.key())
	if err != nil {
		return Point{}, missing(err, "point %s of VM %s", id, at.vm)
	}
	p, err := decodeStored(b)
	if err != nil {
		return p, damaged("point "+id, err)
	}
	return p, nil
}

// getVM returns an empty summary for a VM without points.
func getVM(r pebble.Reader, name string) (VM, error) {
	b, err := get(r, vmKey(name))
	if errors.Is(err, pebble.ErrNotFound) {
		return VM{Name: name}, nil
	}
	if err != nil {
		return VM{}, missing(err, "VM %s", name)
	}
	v, err := decodeVM(name, b)
	if err != nil {
		return v, damaged("VM "+name, err)
	}
	return v, nil
}

// scan calls visit for every key that begins with prefix, in order.
func scan(r pebble.Reader, prefix []byte, visit func(key, value []byte) error) error {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: keysAfter(prefix)})
	if err != nil {
		return err
	}
	defer it.Close()
	what := fmt.Sprintf("keys %q…", prefix)
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return unreadable(what, err)
		}
		if err := visit(it.Key(), v); err != nil {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return unreadable(what, err)
	}
	return nil
}

// eachPoint calls visit for the live points of a VM, oldest first, of all VMs
// if vm is "".
func eachPoint(r pebble.Reader, vm string, visit func(*Point) error) error {
	return eachOf(r, keyPoint, vm, visit)
}

// eachTrashed is eachPoint for the points in the trash.
func eachTrashed(r pebble.Reader, vm string, visit func(*Point) error) error {
	return eachOf(r, keyTrashed, vm, visit)
}

func eachOf(r pebble.Reader, kind byte, vm string, visit func(*Point) error) error {
	prefix := []byte{kind}
	if vm != "" {
		prefix = pointsPrefix(vm)
		prefix[0] = kind
	}
	return scan(r, prefix, func(_, value []byte) error {
		p, err := decodeStored(value)
		if err != nil {
			return damaged("a point of VM "+vm, err)
		}
		return visit(&p)
	})
}

// sumUp makes a VM's summary from its points.
func sumUp(r pebble.Reader, vm string) (VM, error) {
	v := VM{Name: vm}
	err := eachPoint(r, vm, func(p *Point) error {
		v.add(p)
		return nil
	})
	return v, err
}

// eachVM calls visit for every VM, by name.
func eachVM(r pebble.Reader, visit func(*VM) error) error {
	return scan(r, []byte{keyVM}, func(key, value []byte) error {
		v, err := decodeVM(string(key[1:]), value)
		if err != nil {
			return damaged("VM "+v.Name, err)
		}
		return visit(&v)
	})
}

// chunkByHash returns 0 if no chunk of that hash is recorded.
func chunkByHash(r pebble.Reader, key []byte) (ChunkNo, error) {
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, unreadable("a chunk hash", err)
	}
	defer closer.Close()
	if len(v) != 8 {
		return 0, damaged("a chunk hash", errDecode)
	}
	return ChunkNo(binary.BigEndian.Uint64(v)), nil
}
