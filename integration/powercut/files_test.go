package powercut

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/volume"
)

// A session that is "filed" has a file, whose content its key says, and nothing
// changes it once it is flushed: what is cut is its way into a point.
const (
	fileName = "images/vdc.raw"
	fileDisk = "vdc"
)

// fileOf is the file of a session's key: blocks others have too, zeros, and an
// end within a block.
func fileOf(key string) []byte {
	h := fnv.New64a()
	io.WriteString(h, key)
	rng := rand.New(rand.NewPCG(h.Sum64(), 0))
	var p []byte
	for range 6 {
		p = append(p, newBlock(rng, rng.IntN(3))...)
	}
	p = append(p, pool()[rng.IntN(len(pool()))]...)
	p = append(p, make([]byte, dedup.BlockSize)...)
	return append(p, newBlock(rng, 0)[:5000]...)
}

// contentOf is a disk of these bytes.
func contentOf(p []byte) content {
	var none content
	return none.resized(int64(len(p))).written(p, 0, int64(len(p)))
}

// fillFile leaves an open session that has its file and some of a disk, flushed.
func (d *driver) fillFile() error {
	if s := d.openSession(); s != nil {
		if err := d.commit(s); err != nil {
			return err
		}
	}
	d.made++
	s := &session{key: fmt.Sprintf("%s-%s-%d", d.vm, d.name, d.made), vm: d.vm, phase: starting}
	d.m.set(func() { d.m.sessions = append(d.m.sessions, s) })
	err := d.begin(s, volume.StartRequest{VM: d.vm, Files: true, TTL: time.Hour, Labels: map[string]string{"key": s.key},
		Disks: []volume.DiskSpec{{Name: "vda", Size: bigDisk}},
		Blobs: []catalog.Blob{{Name: "domain.xml", Data: blobOf(s.key)}}})
	if err != nil {
		return err
	}
	x, err := d.e.CreateFile(s.id, fileName+".part", 0o600)
	if err != nil {
		return err
	}
	p := fileOf(s.key)
	half := 4*dedup.BlockSize + 100
	_, err1 := x.WriteAt(p[half:], int64(half))
	_, err2 := x.WriteAt(p[:half], 0)
	err = errors.Join(err1, err2, x.Flush(), d.e.RenameFile(s.id, fileName+".part", fileName), x.Close())
	d.m.set(func() { s.filed = true })
	return errors.Join(err, d.writeBlocks(s, s.disks[0]), d.writePart(s, s.disks[0]), d.flush(s))
}

// importFile makes a disk of a session's file, if it has one.
func (d *driver) importFile(s *session) error {
	if !s.filed {
		return nil
	}
	n := int64(len(fileOf(s.key)))
	k, err := d.e.AddDisk(s.id, volume.DiskImport{Disk: fileDisk, Size: n, Mode: "full", Source: fileName})
	if err != nil {
		return fmt.Errorf("add disk: %w", err)
	}
	x, err := d.e.OpenFile(s.id, fileName)
	if err != nil {
		return err
	}
	return errors.Join(k.CopyBlocks(x, 0, 0, n), x.Close())
}

// acceptedFile checks that a session that goes on has its file, and not the disk
// that was made of it.
func acceptedFile(e *engine, s *session) error {
	if !s.filed {
		return nil
	}
	st, err := e.Status(s.id)
	if err != nil || len(st.Disks) != len(s.disks) || len(st.Files) != 1 {
		return fmt.Errorf("has %+v: %v", st, err)
	}
	x, err := e.OpenFile(s.id, fileName)
	if err != nil {
		return err
	}
	defer x.Close()
	want := fileOf(s.key)
	got := make([]byte, len(want)+1)
	if n, err := x.ReadAt(got, 0); n != len(want) || err != io.EOF || !bytes.Equal(got[:n], want) {
		return fmt.Errorf("its file has %d bytes and is not what was flushed: %v", n, err)
	}
	return nil
}

// wholeFile checks the file of a point.
func wholeFile(e *engine, p *point, got *catalog.Point) error {
	if !p.filed {
		if len(got.Files) > 0 {
			return fmt.Errorf("has files %+v", got.Files)
		}
		return nil
	}
	want := fileOf(p.key)
	if len(got.Files) != 1 || got.Files[0].Name != fileName || got.Files[0].Disk != fileDisk || got.Files[0].Size != int64(len(want)) {
		return fmt.Errorf("has files %+v", got.Files)
	}
	return wholeImage(e, p, got, catalog.FileKey(fileName), contentOf(want))
}
