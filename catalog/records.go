package catalog

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Record types of the metadata log (1 is the log's own commit record).
const (
	recChunk      = 2 // uvarint chunk number, chunk record
	recImage      = 3 // point id, disk, chunk list
	recBlob       = 4 // point id, name, bytes
	recPoint      = 5 // point
	recTombstone  = 6 // point id, time
	recAttributes = 7 // point id, attributes
	recPolicy     = 8 // VM, JSON
	recMerge      = 9 // see merged
)

func badRecord(kind string) error {
	return fmt.Errorf("metadata log holds a %s record that is %w: it cannot be decoded", kind, ErrCorrupt)
}

// visitor takes the records of a transaction; a payload is valid during the call.
type visitor = func(typ uint16, payload []byte) error

// tombstone says that a point was removed.
type tombstone struct {
	id   string
	time time.Time
}

// records is the one record of a removal.
func (t *tombstone) records(visit visitor) error {
	return visit(recTombstone, appendTime(appendString(nil, t.id), t.time))
}

func decodeTombstone(b []byte) (*tombstone, error) {
	d := decoder{b: b}
	t := &tombstone{id: d.string(maxName), time: d.time()}
	if d.end() != nil {
		return nil, badRecord("tombstone")
	}
	return t, nil
}

// described are the attributes of a point as they are from now on.
type described struct {
	id string
	Attributes
}

func (a *described) records(visit visitor) error {
	return visit(recAttributes, appendAttributes(appendString(nil, a.id), &a.Attributes))
}

func decodeDescribed(b []byte) (*described, error) {
	d := decoder{b: b}
	a := &described{id: d.string(maxName), Attributes: d.attributes()}
	if d.end() != nil || a.Trashed.IsZero() != a.Purge.IsZero() {
		return nil, badRecord("attributes")
	}
	return a, nil
}

// ruled is the policy of a VM from now on; without one when value is empty.
type ruled struct {
	vm    string
	value []byte // JSON
}

func (p *ruled) records(visit visitor) error {
	return visit(recPolicy, append(appendString(nil, p.vm), p.value...))
}

func decodeRuled(b []byte) (*ruled, error) {
	d := decoder{b: b}
	p := &ruled{vm: d.string(maxName)}
	p.value = append(p.value, d.b...)
	if d.bad {
		return nil, badRecord("policy")
	}
	if len(p.value) > 0 {
		if _, err := decodePolicy(p.value); err != nil {
			return nil, badRecord("policy")
		}
	}
	return p, nil
}

// Directions of a merge as stored.
const (
	mergeCommit = 0 // into an ancestor, which gets the content
	mergePull   = 1 // into a descendant, which keeps its content
)

// merged says that images of one line became one.
type merged struct {
	vm, disk   string
	into, from string
	direction  uint64
	time       time.Time
	gone       []string // points whose image of the disk goes, oldest first; from is one
}

// records is the one record of a merge.
func (m *merged) records(visit visitor) error {
	var b []byte
	for _, s := range []string{m.vm, m.disk, m.into, m.from} {
		b = appendString(b, s)
	}
	b = binary.AppendUvarint(b, m.direction)
	b = appendTime(b, m.time)
	b = binary.AppendUvarint(b, uint64(len(m.gone)))
	for _, id := range m.gone {
		b = appendString(b, id)
	}
	return visit(recMerge, b)
}

func decodeMerged(b []byte) (*merged, error) {
	d := decoder{b: b}
	m := &merged{vm: d.string(maxName), disk: d.string(maxName), into: d.string(maxName), from: d.string(maxName),
		direction: d.size(mergePull), time: d.time()}
	for range d.size(maxMerged) {
		if d.bad {
			break
		}
		m.gone = append(m.gone, d.string(maxName))
	}
	if d.end() != nil || len(m.gone) == 0 {
		return nil, badRecord("merge")
	}
	return m, nil
}
