package volume

import (
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/ids"
	"github.com/strongroom-backup/strongroom/internal/mutant"
)

// Receipt is what a commit made.
type Receipt struct {
	Point  string         `json:"point"`
	VM     string         `json:"vm"`
	Time   time.Time      `json:"time"`
	Images []ReceiptImage `json:"images"`
	Files  []ReceiptFile  `json:"files,omitempty"`
}

// ReceiptFile is one file of a receipt; sizes are bytes.
type ReceiptFile struct {
	catalog.FileImage
	Root string `json:"root"` // hex
}

// ReceiptImage is one image of a receipt; sizes are bytes.
type ReceiptImage struct {
	catalog.Image
	Root string `json:"root"` // hex
}

// NewReceipt describes a committed point.
func NewReceipt(p catalog.Point) Receipt {
	r := Receipt{Point: p.ID, VM: p.VM, Time: p.Time}
	for _, im := range p.Images {
		r.Images = append(r.Images, ReceiptImage{Image: im, Root: hex.EncodeToString(im.Root[:])})
	}
	for _, f := range p.Files {
		r.Files = append(r.Files, ReceiptFile{FileImage: f, Root: hex.EncodeToString(f.Root[:])})
	}
	return r
}

// Commit publishes a session as a recovery point: all its disks and blobs, or
// nothing. When it returns nil the point survives a power cut. Committing a
// committed session again returns the same receipt. After an error the session
// is open as before, unless the message says otherwise.
//
// Commit waits for operations under way and lets no new ones in; the caller
// has taken leave of the session's clients before.
func (m *Manager) Commit(id string) (Receipt, error) {
	s, err := m.backup(id)
	if err != nil {
		return Receipt{}, err
	}
	return m.publish(s)
}

// publish is Commit and SealClone.
func (m *Manager) publish(s *session) (Receipt, error) {
	s.verb.Lock()
	defer s.verb.Unlock()
	start := time.Now()
	switch s.state() {
	case Committed:
		p, err := m.cat.Point(s.content().Point)
		return NewReceipt(p), err
	case Committing: // an attempt whose outcome is open
	default:
		if err := s.usable(); err != nil {
			return Receipt{}, err
		}
	}
	s.gate.Lock()
	defer s.gate.Unlock()
	op := m.epochs.enter()
	defer m.epochs.leave(op)
	p, err := s.commit()
	if err != nil {
		if s.file.Clone {
			return Receipt{}, fmt.Errorf("seal clone %s of VM %s: %w", s.file.ID, s.file.VM, err)
		}
		return Receipt{}, fmt.Errorf("commit backup %s of VM %s: %w", s.file.ID, s.file.VM, err)
	}
	m.stats.committed.Add(1)
	m.stats.commits.Since(start)
	m.notifyClosed(s, Committed)
	return NewReceipt(p), nil
}

// commit runs with the gate held.
func (s *session) commit() (catalog.Point, error) {
	if err := s.complete(); err != nil {
		return catalog.Point{}, err
	}
	if s.file.Clone {
		if err := s.foldAll(); err != nil {
			return catalog.Point{}, err
		}
	}
	if s.state() == Open {
		if err := s.setState(Committing, ids.New(s.m.now())); err != nil {
			return catalog.Point{}, err
		}
	}
	images, err := s.images()
	var files []catalog.NewFile
	if err == nil {
		files, err = s.fileImages()
	}
	now := s.content()
	if err == nil && s.file.Clone {
		now.Blobs, err = s.m.blobsOf(now.Base)
	}
	if err == nil && !mutant.On("volume/commit-before-sync") {
		err = s.syncPacks()
	}
	if err != nil {
		return catalog.Point{}, s.reopen(err)
	}
	p, err := s.m.cat.Commit(catalog.NewPoint{
		ID: now.Point, VM: now.VM, Start: now.Started, Manual: now.Manual, Sealed: now.Clone,
		Labels: now.Labels, Images: images, Files: files, Blobs: now.Blobs,
	})
	if errors.Is(err, catalog.ErrExists) { // an earlier attempt got through after all
		p, err = s.m.cat.Point(now.Point)
	}
	if err != nil {
		return catalog.Point{}, fmt.Errorf("%w; whether the point exists is decided when the server starts again: "+
			"restart it and ask for the status of the session", err)
	}
	if err := s.setState(Committed, p.ID); err != nil {
		return p, fmt.Errorf("point %s is committed, but the session's state could not be saved: %w", p.ID, err)
	}
	return p, s.discard()
}

// reopen undoes the announcement of a commit that failed before the catalog saw it.
func (s *session) reopen(cause error) error {
	if s.dead.Load() != nil {
		return cause
	}
	if err := s.setState(Open, ""); err != nil {
		return fmt.Errorf("%w; and the session could not be opened again, retry the commit or restart the server: %w", cause, err)
	}
	return cause
}

// setState makes a state and the point it is about durable.
func (s *session) setState(st State, point string) error {
	s.saving.Lock()
	defer s.saving.Unlock()
	next := s.content()
	next.State, next.Point = st, point
	if st != Open && st != Committing {
		next.Ended, next.Blobs, next.Files = s.m.now().UTC(), nil, nil
	}
	if err := s.m.save(&next); err != nil {
		return err
	}
	s.replace(&next)
	return nil
}

// discard closes an ended session's files and removes its journals.
func (s *session) discard() error {
	return errors.Join(s.release(), s.m.removeJournals(s))
}

// images builds the chunk lists of all disks.
func (s *session) images() ([]catalog.NewImage, error) {
	var images []catalog.NewImage
	for _, d := range s.disks {
		refs, err := d.image()
		if err != nil {
			return nil, fmt.Errorf("disk %s: %w", d.spec.Disk, err)
		}
		c := d.counts()
		images = append(images, catalog.NewImage{Chunks: refs, Image: catalog.Image{
			Disk: d.spec.Disk, Size: d.spec.Size, Mode: d.spec.Mode, Parent: d.spec.Parent, Checkpoint: d.spec.Checkpoint,
			WrittenBytes: c.written, ZeroedBytes: c.zeroed, NewBytes: c.fresh, StoredBytes: c.stored,
		}})
	}
	return images, nil
}

// image is what the disk or file now is: the parent's chunks where the session
// touched nothing, and chunks made from the session's map. The caller holds the
// gate.
func (d *disk) image() ([]catalog.ChunkRef, error) {
	refs := make([]catalog.ChunkRef, (d.end()+dedup.ChunkSize-1)/dedup.ChunkSize)
	for i := range refs {
		refs[i].No = d.base.number(int64(i))
	}
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, i := range d.changed() {
		g.Go(func() (err error) {
			refs[i], err = d.record(i)
			return err
		})
	}
	return refs, g.Wait()
}

// changed are the chunks whose records may differ from the parent's: those
// touched, and the parent's short last one when the disk has grown.
func (d *disk) changed() (list []uint32) {
	for i := range d.chunks {
		list = append(list, i)
	}
	if last := d.base.size / dedup.ChunkSize; d.spec.Size > d.base.size && d.base.size%dedup.ChunkSize != 0 {
		if d.chunks[uint32(last)] == nil {
			list = append(list, uint32(last))
		}
	}
	slices.Sort(list)
	return list
}

// record makes the record of one chunk as it is now.
func (d *disk) record(index uint32) (catalog.ChunkRef, error) {
	d.mu.Lock()
	if c := d.chunks[index]; c != nil {
		// Not logged: the commit may come to nothing, and a journal that was flushed
		// stays so.
		keep := d.applyMerged
		if mutant.On("volume/commit-soils-journals") {
			keep = d.logMerged
		}
		if err := d.foldChunk(index, c, keep); err != nil {
			d.mu.Unlock()
			return catalog.ChunkRef{}, err
		}
	}
	d.mu.Unlock()
	a, _, err := d.view(int64(index))
	if err != nil {
		return catalog.ChunkRef{}, err
	}
	length := min(dedup.ChunkSize, d.end()-int64(index)*dedup.ChunkSize)
	list := a[:(length+dedup.BlockSize-1)/dedup.BlockSize]
	runs := runsOf(list)
	if len(runs) == 0 {
		return catalog.ChunkRef{}, nil
	}
	hashes := make([]dedup.Hash, len(list))
	if err := d.s.m.blocks.Hashes(list, hashes); err != nil {
		return catalog.ChunkRef{}, err
	}
	return catalog.ChunkRef{New: &catalog.Chunk{
		Hash: d.s.m.blocks.ChunkHash(length, hashes), Length: uint32(length), Runs: runs,
	}}, nil
}
