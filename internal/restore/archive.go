package restore

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/strongroom-backup/strongroom/internal/nbdclient"
	"github.com/strongroom-backup/strongroom/internal/vma"
)

// Archive is a restore of disks and blobs into one VMA archive.
type Archive struct {
	Disks   []ArchiveDisk
	Blobs   []vma.Config
	Created time.Time // of the point
	Output  string    // a file; not for Stream
	Force   bool
	Verify  bool
	Events  Events
}

// ArchiveDisk is a disk of an archive.
type ArchiveDisk struct {
	Name   string
	Target nbdclient.Target
	Size   int64
}

// Run writes the archive into a file, which appears when it is whole and synced.
func (a Archive) Run(ctx context.Context) ([]Result, error) {
	out, err := Create(a.Output, a.Force)
	if err != nil {
		return nil, err
	}
	defer out.Discard()
	w := newSequential(out)
	list, err := a.Stream(ctx, w)
	if endErr := w.end(); err == nil {
		err = endErr
	}
	if err != nil {
		return nil, err
	}
	if err := out.complete(); err != nil {
		return nil, fmt.Errorf("write %s: %w", a.Output, err)
	}
	if a.Verify {
		if err := a.verify(ctx, out.content(), list); err != nil {
			return nil, err
		}
	}
	if err := out.Finish(); err != nil {
		return nil, fmt.Errorf("write %s: %w", a.Output, err)
	}
	return list, nil
}

// Stream writes the archive to w. The results are those of the disks. When it
// fails, what was written is no archive.
func (a Archive) Stream(ctx context.Context, w io.Writer) ([]Result, error) {
	list, err := a.write(ctx, w)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return list, classify(err)
}

func (a Archive) write(ctx context.Context, w io.Writer) ([]Result, error) {
	list := make([]Result, len(a.Disks))
	sources := map[uint8]vma.Source{}
	hashers := make([]*ContentHasher, len(a.Disks))
	header := vma.Header{Created: a.Created, Configs: a.Blobs}
	total := int64(0)
	for i, d := range a.Disks {
		conn, err := open(ctx, d.Target, d.Size)
		if err != nil {
			return nil, fmt.Errorf("disk %s: %w", d.Name, err)
		}
		defer conn.Close()
		if list[i].Data, err = dataOf(conn); err != nil {
			return nil, fmt.Errorf("disk %s: %w", d.Name, err)
		}
		id := uint8(i + 1)
		hashers[i] = NewContentHasher(d.Size)
		sources[id] = &hashedSource{Source: conn, hasher: hashers[i], least: longZeros}
		header.Devices = append(header.Devices, vma.Device{ID: id, Name: d.Name, Size: d.Size})
		total += d.Size
	}
	a.Events.begin(StepCopy, total)
	if err := vma.Write(ctx, w, header, sources, a.Events.Progress); err != nil {
		return nil, err
	}
	for i := range list {
		var err error
		if list[i].Hash, err = hashers[i].Sum(); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// verify reads what was written.
func (a Archive) verify(ctx context.Context, path string, want []Result) error {
	f, err := openLocal(path)
	if err != nil {
		return err
	}
	defer f.Close()
	a.Events.begin(StepVerify, f.size)
	sizes := map[string]int64{}
	for _, d := range a.Disks {
		sizes[d.Name] = d.Size
	}
	got, err := readArchive(ctx, f, sizes, a.Events.Progress)
	if err != nil {
		return fmt.Errorf("read %s back: %w", a.Output, err)
	}
	for i, d := range a.Disks {
		hash, ok := got.disks[d.Name]
		if !ok {
			return fmt.Errorf("read %s back: it has no disk %s", a.Output, d.Name)
		}
		if ranges := compare(hash, want[i].Hash, d.Size); len(ranges) > 0 {
			return fmt.Errorf("disk %s: %w", d.Name, &MismatchError{Path: a.Output, Ranges: ranges})
		}
	}
	return nil
}

// archiveContent is what an archive has.
type archiveContent struct {
	disks map[string]DiskHash
	blobs map[string][]byte
}

// readArchive reads and hashes a whole archive of disks of these sizes.
func readArchive(ctx context.Context, f *localFile, sizes map[string]int64, progress func(int64)) (*archiveContent, error) {
	in := &countedReader{r: io.NewSectionReader(f, 0, f.size), progress: progress}
	r, err := vma.NewReader(in)
	if err != nil {
		return nil, err
	}
	c := &archiveContent{disks: map[string]DiskHash{}, blobs: map[string][]byte{}}
	for _, b := range r.Header().Configs {
		c.blobs[b.Name] = b.Data
	}
	hashers := map[uint8]*ContentHasher{}
	for _, d := range r.Header().Devices {
		if size, ok := sizes[d.Name]; !ok || d.Size != size || d.Memory() {
			return nil, fmt.Errorf("it has a disk %.128q of %d bytes, which was not restored", d.Name, d.Size)
		}
		hashers[d.ID] = NewContentHasher(d.Size)
	}
	for ctx.Err() == nil {
		id, off, data, zero, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		h := hashers[id]
		if n := min(BlockSize, h.size-off); zero {
			h.Zero(off, n)
		} else {
			h.Write(data[:n], off)
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	for _, d := range r.Header().Devices {
		if c.disks[d.Name], err = hashers[d.ID].Sum(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// countedReader tells how much was read.
type countedReader struct {
	r        io.Reader
	progress func(int64)
}

func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.progress != nil && n > 0 {
		c.progress(int64(n))
	}
	return n, err
}
