package bitrot

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/sstable"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
)

// unit is a part of a file that the format gives a meaning.
type unit struct {
	class    string
	off, len int64
}

func (u unit) end() int64 { return u.off + u.len }

// kindOf names what a file is; "" for what is no part of the store.
func kindOf(name string) string {
	base := path.Base(name)
	db := ""
	switch {
	case strings.HasPrefix(name, catalogDir+"/"):
		db = "catalog"
	case strings.HasPrefix(name, indexDir+"/"):
		db = "index"
	}
	switch {
	case base == "LOCK":
		return ""
	case db != "" && strings.HasSuffix(base, ".sst"):
		return db + " table"
	case db != "" && strings.HasSuffix(base, ".log"):
		return db + " WAL"
	case db != "" && strings.HasPrefix(base, "MANIFEST"):
		return db + " MANIFEST"
	case db != "" && strings.HasPrefix(base, "OPTIONS"):
		return db + " OPTIONS"
	case db != "" && strings.HasPrefix(base, "marker."):
		return db + " marker"
	case db != "":
		return db + " " + base
	case strings.HasSuffix(base, ".pack"):
		return "pack"
	case strings.HasSuffix(base, ".note"):
		return "note"
	case strings.HasSuffix(base, ".mlog"):
		return "log"
	case strings.HasSuffix(base, ".journal"):
		return "journal"
	case base == "session.json":
		return "session"
	case base == "strongroom.json":
		return "identity"
	case base == "TIER":
		return "tier marker"
	}
	return "other " + base
}

// units takes a file apart.
func units(fs *crashfs.FS, name string, data []byte) ([]unit, error) {
	switch kind := kindOf(name); {
	case kind == "pack":
		return packUnits(data), nil
	case kind == "log":
		return logUnits(data), nil
	case kind == "journal":
		return journalUnits(data), nil
	case strings.HasSuffix(kind, " table"):
		return tableUnits(fs, name, kind)
	case strings.HasSuffix(kind, " WAL"), strings.HasSuffix(kind, " MANIFEST"):
		return pebbleLogUnits(kind, data), nil
	case len(data) > 0:
		return []unit{{kind, 0, int64(len(data))}}, nil
	}
	return nil, nil
}

const (
	packHeader  = 64
	packFooter  = 96
	frameFixed  = 48
	footerMagic = "SRPKEND\x01"
	frameMagic  = "SRF1"
)

func sealed(data []byte) bool { return bytes.HasSuffix(data, []byte(footerMagic)) }

// frame is a frame as it lies in a pack.
type frame struct {
	off, payload, end int64
	raw, later        bool
	slots             []uint16
}

// frames walks over a pack, past torn bytes too.
func frames(data []byte) (list []frame, toc1, toc2 int64) {
	limit := int64(len(data))
	toc1, toc2 = limit, limit
	if sealed(data) {
		foot := data[len(data)-packFooter:]
		toc1, toc2 = int64(binary.LittleEndian.Uint64(foot)), int64(binary.LittleEndian.Uint64(foot[8:]))
	}
	for at := int64(packHeader); at+frameFixed < toc1 && string(data[at:at+4]) == frameMagic; {
		n := int64(data[at+6])
		f := frame{off: at, payload: at + frameFixed + 32*n, raw: data[at+4] != 1, later: data[at+4] == 2}
		f.end = f.payload + int64(binary.LittleEndian.Uint32(data[at+12:]))
		for i := range n {
			f.slots = append(f.slots, binary.LittleEndian.Uint16(data[at+20+2*i:]))
		}
		if f.end > toc1 {
			break
		}
		list, at = append(list, f), f.end
	}
	return list, toc1, toc2
}

func packUnits(data []byte) (list []unit) {
	what := "sealed pack: "
	if !sealed(data) {
		what = "open pack: "
	}
	if len(data) < packHeader {
		return nil
	}
	list = append(list, unit{what + "header", 0, packHeader})
	all, toc1, toc2 := frames(data)
	end := int64(packHeader)
	for _, f := range all {
		coded := "zstd payload"
		switch {
		case f.later:
			coded = "later payload"
		case f.raw:
			coded = "raw payload"
		}
		list = append(list, unit{what + "frame", f.off, f.end - f.off},
			unit{what + "frame header", f.off, f.payload - f.off}, unit{what + coded, f.payload, f.end - f.payload})
		end = f.end
	}
	if end < toc1 {
		list = append(list, unit{what + "torn bytes", end, toc1 - end})
	}
	if sealed(data) {
		foot := int64(len(data)) - packFooter
		list = append(list, unit{what + "TOC 1", toc1, toc2 - toc1}, unit{what + "TOC 2", toc2, foot - toc2},
			unit{what + "footer", foot, packFooter})
	}
	return list
}

func logUnits(data []byte) (list []unit) {
	const header, fixed = 64, 32
	list = []unit{{"log: file header", 0, min(header, int64(len(data)))}}
	for at := int64(header); at+fixed+4 <= int64(len(data)) && string(data[at:at+4]) == "SRMR"; {
		n := int64(binary.LittleEndian.Uint32(data[at+4:]))
		whole := unit{"log: record", at, fixed + n + 4}
		if binary.LittleEndian.Uint16(data[at+24:]) == 1 {
			whole.class = "log: commit record"
		} else {
			list = append(list, unit{"log: record header", at, fixed}, unit{"log: payload", at + fixed, n},
				unit{"log: checksum", at + fixed + n, 4})
		}
		list, at = append(list, whole), whole.end()
	}
	return list
}

func journalUnits(data []byte) (list []unit) {
	const header, fixed = 64, 16
	list = []unit{{"journal: header", 0, min(header, int64(len(data)))}}
	names := map[byte]string{1: "map", 2: "raw", 3: "zero", 4: "chunk", 5: "clean mark", 6: "dirty mark"}
	for at := int64(header); at+fixed+4 <= int64(len(data)); {
		u := unit{"journal: " + names[data[at+4]], at, fixed + int64(binary.LittleEndian.Uint32(data[at:])) + 4}
		if names[data[at+4]] == "" || u.end() > int64(len(data)) {
			break
		}
		list, at = append(list, u), u.end()
	}
	return list
}

// tableUnits lets Pebble tell the blocks of a table.
func tableUnits(fs *crashfs.FS, name, kind string) (list []unit, err error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return nil, err
	}
	r, err := sstable.NewReader(context.Background(), readable, sstable.ReaderOptions{})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	defer r.Close()
	l, err := r.Layout()
	if err != nil {
		return nil, err
	}
	add := func(class string, off, n uint64, trailer int64) {
		if n > 0 {
			list = append(list, unit{kind + ": " + class, int64(off), int64(n) + trailer})
		}
	}
	for _, h := range l.Data {
		add("data block", h.Offset, h.Length, 5)
	}
	for _, h := range l.Index {
		add("index block", h.Offset, h.Length, 5)
	}
	add("index block", l.TopIndex.Offset, l.TopIndex.Length, 5)
	for _, h := range l.Filter {
		add("filter", h.Offset, h.Length, 5)
	}
	add("properties", l.Properties.Offset, l.Properties.Length, 5)
	add("meta index", l.MetaIndex.Offset, l.MetaIndex.Length, 5)
	add("footer", l.Footer.Offset, l.Footer.Length, 0)
	return list, nil
}

// pebbleLogUnits finds the records of a WAL or MANIFEST.
func pebbleLogUnits(kind string, data []byte) (list []unit) {
	const blockSize = 32 << 10
	for at := int64(0); at+7 <= int64(len(data)); {
		n, typ := int64(binary.LittleEndian.Uint16(data[at+4:])), data[at+6]
		head := int64(7)
		switch {
		case typ == 0 || typ > 12 || blockSize-at%blockSize < 7:
			at += blockSize - at%blockSize // the rest of the block is empty
			continue
		case typ > 8:
			head = 19
		case typ > 4:
			head = 11
		}
		if at+head+n > int64(len(data)) {
			break
		}
		list = append(list, unit{kind + ": middle", at, head + n})
		at += head + n
	}
	if n := len(list); n > 0 {
		list[n-1].class = kind + ": last record"
		list[0].class = kind + ": first record"
	}
	return list
}

// classes takes every file apart and sorts the parts by class.
func (w *world) classes() (map[string][]place, error) {
	out := map[string][]place{}
	for name, data := range w.files {
		kind := kindOf(name)
		if kind == "" {
			continue
		}
		out[kind+" file"] = append(out[kind+" file"], place{w, name, unit{kind + " file", 0, int64(len(data))}})
		list, err := units(w.fs, name, data)
		if err != nil {
			return nil, err
		}
		for _, u := range list {
			out[u.class] = append(out[u.class], place{w, name, u})
		}
	}
	for _, list := range out {
		slices.SortFunc(list, func(a, b place) int {
			return strings.Compare(fmt.Sprintf("%s %012d", a.file, a.off), fmt.Sprintf("%s %012d", b.file, b.off))
		})
	}
	return out, nil
}

// place is a unit of a file of a world.
type place struct {
	w    *world
	file string
	unit
}
