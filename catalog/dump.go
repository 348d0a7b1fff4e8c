package catalog

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// Dump writes the catalog's logical content as text, sorted: every point, live
// and in the trash, with its attributes, labels, images, chunk lists and blobs;
// the points removed; the policies; every chunk an image names, with its runs
// and how many times it is named. It is as of one moment, and equal for two
// catalogs exactly if they are: for one, and what is rebuilt from its log, once
// all points removed are forgotten.
func (c *Catalog) Dump(w io.Writer) error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.leave()
	snap := c.db.NewSnapshot()
	defer snap.Close()
	d := dumper{r: snap, w: bufio.NewWriter(w)}
	for _, part := range []func() error{d.mark, d.points, d.removed, d.policies, d.chunks} {
		if err := part(); err != nil {
			return err
		}
	}
	return d.w.Flush() // it remembers earlier errors
}

type dumper struct {
	r *pebble.Snapshot
	w *bufio.Writer
}

func (d *dumper) mark() error {
	b, err := get(d.r, []byte{keyWatermark})
	if err != nil {
		return unreadable("the watermark", err)
	}
	m, err := decodeWatermark(b)
	if err != nil {
		return damaged("the watermark", err)
	}
	fmt.Fprintf(d.w, "log record %d, next chunk %d, newest time %s\n", m.seq, m.next, dumpTime(m.lastTime))
	return nil
}

func dumpTime(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

func (d *dumper) points() error {
	if err := eachPoint(d.r, "", d.point); err != nil {
		return err
	}
	return eachTrashed(d.r, "", d.point)
}

func (d *dumper) point(p *Point) error {
	fmt.Fprintf(d.w, "point %s vm %s time %s start %s manual %t%s hold %q locked %s trashed %s purge %s\n", p.ID, p.VM,
		dumpTime(p.Time), dumpTime(p.Start), p.Manual, dumpSealed(p.Sealed), p.Hold, dumpTime(p.LockedUntil), dumpTime(p.Trashed), dumpTime(p.Purge))
	for _, k := range slices.Sorted(maps.Keys(p.Labels)) {
		fmt.Fprintf(d.w, "  label %s %q\n", k, p.Labels[k])
	}
	for i := range p.Images {
		im := &p.Images[i]
		fmt.Fprintf(d.w, "  image %s size %d mode %s parent %q root %x checkpoint %q written %d zeroed %d new %d stored %d merged %s from %q\n",
			im.Disk, im.Size, im.Mode, im.Parent, im.Root, im.Checkpoint, im.WrittenBytes, im.ZeroedBytes, im.NewBytes, im.StoredBytes,
			dumpTime(im.Merged), im.MergedFrom)
		if im.Gone > 0 {
			fmt.Fprintf(d.w, "    gone before it %d\n", im.Gone)
		}
		if err := d.list(p.ID, im.Disk); err != nil {
			return err
		}
	}
	for i := range p.Files {
		f := &p.Files[i]
		fmt.Fprintf(d.w, "  file %q size %d modified %s disk %q root %x written %d new %d stored %d\n",
			f.Name, f.Size, dumpTime(f.Modified), f.Disk, f.Root, f.WrittenBytes, f.NewBytes, f.StoredBytes)
		if err := d.list(p.ID, FileKey(f.Name)); err != nil {
			return err
		}
	}
	for _, f := range p.Blobs {
		fmt.Fprintf(d.w, "  blob %s size %d hash %x\n", f.Name, f.Size, f.Hash)
		b, err := get(d.r, blobKey(p.ID, f.Name))
		if err != nil {
			return missing(err, "blob %s of point %s", f.Name, p.ID)
		}
		fmt.Fprintf(d.w, "    %x\n", b)
	}
	return nil
}

// list writes a chunk list, runs as first+count and zeros as 0+count.
func (d *dumper) list(id, disk string) error {
	what := fmt.Sprintf("%s at point %s", partName(disk), id)
	b, err := get(d.r, imageKey(id, disk))
	if err != nil {
		return missing(err, "%s", what)
	}
	fmt.Fprint(d.w, "    chunks")
	if err := eachListRun(b, func(first ChunkNo, n uint64) { fmt.Fprintf(d.w, " %d+%d", first, n) }); err != nil {
		return damaged(what, err)
	}
	fmt.Fprintln(d.w)
	return nil
}

func (d *dumper) removed() error {
	return scan(d.r, []byte{keyRemoved}, func(key, value []byte) error {
		t := decoder{b: value}
		id, state := string(key[1:]), "forgotten"
		if _, err := get(d.r, pendingKey(id)); err == nil {
			state = "not forgotten"
		}
		fmt.Fprintf(d.w, "removed %s at %s, %s\n", id, dumpTime(t.time()), state)
		return nil
	})
}

func (d *dumper) policies() error {
	return scan(d.r, []byte{keyPolicy}, func(key, value []byte) error {
		fmt.Fprintf(d.w, "policy %q %s\n", key[1:], value)
		return nil
	})
}

func (d *dumper) chunks() error {
	refs := newRefReader(d.r)
	return scan(d.r, []byte{keyChunk}, func(key, value []byte) error {
		no := ChunkNo(binary.BigEndian.Uint64(key[1:]))
		count, err := refs.count(no)
		if err != nil || count == 0 {
			return err
		}
		k, err := decodeChunk(value)
		if err != nil {
			return damaged(fmt.Sprintf("chunk %d", no), err)
		}
		named, err := chunkByHash(d.r, chunkHashKey(k.Hash))
		fmt.Fprintf(d.w, "chunk %d references %d hash %x found as %d length %d runs", no, count, k.Hash, named, k.Length)
		for _, r := range k.Runs {
			fmt.Fprintf(d.w, " %d+%d@%s", r.Start, r.Count, r.Addr)
		}
		fmt.Fprintln(d.w)
		return err
	})
}

func dumpSealed(sealed bool) string {
	if sealed {
		return " sealed"
	}
	return ""
}
