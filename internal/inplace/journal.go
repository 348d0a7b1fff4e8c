package inplace

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"github.com/strongroom-backup/strongroom/internal/ids"
)

const (
	journalMagic   = "SRINPL\x00\x01"
	journalVersion = 1
	journalHead    = 24
	rangeBytes     = 16
	// journalBytesMax is the longest journal there can be.
	journalBytesMax = journalHead + journalTextMax + rangesMax*rangeBytes + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// state is what a journal says.
type state struct {
	Target string    `json:"target"` // its identity
	Size   int64     `json:"size"`   // of the disk that the target is to become, bytes
	Was    int64     `json:"was"`    // the target's size before the first restore
	Refs   []Ref     `json:"refs"`   // restores that were begun, the last one at the end
	Begun  time.Time `json:"begun"`  // the last one
	// Unsure says that the ranges may not be all: whatever comes must compare
	// everything.
	Unsure bool `json:"unsure,omitempty"`

	touched *Ranges // where they may have written
}

// encode makes the file's bytes.
func (s *state) encode() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrJournal, err)
	}
	text, err := json.Marshal(s)
	if err != nil || len(text) > journalTextMax {
		return nil, fmt.Errorf("%w: %d bytes of text: %v", ErrJournal, len(text), err)
	}
	spans := s.touched.spans()
	b := make([]byte, 0, journalHead+len(text)+len(spans)*rangeBytes+4)
	b = append(b, journalMagic...)
	b = binary.LittleEndian.AppendUint16(b, journalVersion)
	b = append(b, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(spans)))
	b = append(b, text...)
	for _, r := range spans {
		b = binary.LittleEndian.AppendUint64(b, uint64(r.off))
		b = binary.LittleEndian.AppendUint64(b, uint64(r.end-r.off))
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

// decode reads a journal. Whatever is wrong with it wraps ErrJournal.
func decode(b []byte) (*state, error) {
	bad := func(format string, args ...any) (*state, error) {
		return nil, fmt.Errorf("%w: %s", ErrJournal, fmt.Sprintf(format, args...))
	}
	if len(b) < journalHead+4 || string(b[:8]) != journalMagic {
		return bad("it is no journal of a restore in place")
	}
	if v := binary.LittleEndian.Uint16(b[8:]); v != journalVersion {
		return bad("its version is %d; this program knows %d", v, journalVersion)
	}
	body := b[:len(b)-4]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(b[len(body):]) {
		return bad("it is damaged")
	}
	text, count := binary.LittleEndian.Uint32(b[12:]), binary.LittleEndian.Uint64(b[16:])
	if b[10]|b[11] != 0 || text > journalTextMax || count > rangesMax || uint64(len(body)) != journalHead+uint64(text)+count*rangeBytes {
		return bad("its lengths do not add up")
	}
	s := &state{}
	d := json.NewDecoder(bytes.NewReader(body[journalHead:][:text]))
	d.DisallowUnknownFields()
	if err := d.Decode(s); err != nil {
		return bad("%v", err)
	}
	if err := s.check(); err != nil {
		return bad("%v", err)
	}
	return s, s.decodeRanges(body[journalHead+text:])
}

func (s *state) check() error {
	switch {
	case s.Size < 1 || s.Size > sizeMax || s.Was < 0 || s.Was > sizeMax:
		return fmt.Errorf("sizes %d and %d", s.Size, s.Was)
	case len(s.Refs) == 0 || len(s.Refs) > mixedMax:
		return fmt.Errorf("%d restores", len(s.Refs))
	}
	for _, r := range s.Refs {
		if !ids.IsName(r.VM) || !ids.IsName(r.Disk) || !ids.IsID(r.Point) {
			return fmt.Errorf("the reference %.200q", r.String())
		}
	}
	return nil
}

func (s *state) decodeRanges(b []byte) error {
	limit := max(s.Size, s.Was)
	s.touched = NewRanges(limit)
	end := int64(-1)
	for ; len(b) > 0; b = b[rangeBytes:] {
		off, n := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
		if off > uint64(limit) || n == 0 || n > uint64(limit)-off || int64(off) <= end {
			return fmt.Errorf("%w: the range of %d bytes at %d", ErrJournal, n, off)
		}
		end = int64(off + n)
		s.touched.Add(int64(off), int64(n))
	}
	return nil
}

// next is the state of a restore that begins on what s has left; s may be nil.
func (s *state) next(t Target, ref Ref, size int64, now time.Time, work *Ranges) *state {
	n := &state{Target: t.Identity(), Size: size, Was: t.Size(), Refs: []Ref{ref}, Begun: now.UTC()}
	if s != nil {
		n.Was = max(n.Was, s.Was)
		n.Unsure = s.Unsure
		n.Refs = append(slices.DeleteFunc(slices.Clone(s.Refs), func(r Ref) bool { return r == ref }), ref)
		n.Refs = n.Refs[max(0, len(n.Refs)-mixedMax):]
	}
	n.touched = NewRanges(max(n.Size, n.Was))
	if s != nil {
		n.touched.Join(s.touched)
	}
	n.touched.Join(work)
	// What is cut off and what is added are not what was there before either, though
	// they may be as they should.
	least := min(t.Size(), size)
	n.touched.Add(least, max(t.Size(), size)-least)
	return n
}

func (s *state) mix(journal string) *Mix {
	return &Mix{Refs: s.Refs, Begun: s.Begun, Bytes: s.touched.Bytes(), Ranges: s.touched.Len(), Journal: journal}
}
