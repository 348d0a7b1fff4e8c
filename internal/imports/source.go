package imports

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/strongroom-backup/strongroom/internal/ids"
	"github.com/strongroom-backup/strongroom/internal/qcow2"
	"github.com/strongroom-backup/strongroom/internal/vma"
)

// Options says what to import.
type Options struct {
	Path    string            // "-": Stdin
	Stdin   io.Reader         // read to its end
	Format  Format            // "": from its first bytes
	Size    int64             // of a raw disk from Stdin
	Disk    string            // name of a raw or qcow2 image's disk; "": from the file's
	Map     map[string]string // names of an archive's devices → those of disks
	Backing bool              // follow the files a qcow2 image stands on
}

// Disk is a disk to be written.
type Disk struct {
	Name string
	Size int64
}

// Config is a file that comes with the disks.
type Config struct {
	Name string
	Data []byte
}

// Source is an opened image or archive. Copy may be called once.
type Source struct {
	Name    string // of the file, without its folder; "stdin"
	Format  Format
	Disks   []Disk
	Configs []Config
	Created time.Time // of an archive; else zero
	Skipped []string  // devices of an archive that are no disks
	copy    func(o *output) error
	stream  *io.PipeReader // of standard input; else nil
	files   []opened
}

// Open looks at the source and reads what is in its header. A *UsageError says
// what must be asked for otherwise; a source that is damaged, or no image that
// can be read, is an error of package vma or qcow2. Standard input is read as long
// as ctx lasts, and may be so for a while longer.
func Open(ctx context.Context, o Options) (*Source, error) {
	s := &Source{Name: "stdin", Format: o.Format}
	err := s.open(ctx, o)
	if err == nil {
		err = s.checkNames()
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Close closes the files.
func (s *Source) Close() error {
	var err error
	if s.stream != nil {
		s.stream.Close()
	}
	for _, f := range s.files {
		err = errors.Join(err, f.Close())
	}
	s.files = nil
	return err
}

// Size is that of all disks together.
func (s *Source) Size() (n int64) {
	for _, d := range s.Disks {
		n += d.Size
	}
	return n
}

func (s *Source) open(ctx context.Context, o Options) error {
	if o.Path == "-" {
		s.stream = interruptible(ctx, o.Stdin)
		return s.openStream(bufio.NewReaderSize(s.stream, unitSize), o)
	}
	if o.Size != 0 {
		return &UsageError{"--size is for a raw disk from standard input; " + o.Path + " has a size", ""}
	}
	s.Name = filepath.Base(o.Path)
	f, size, err := s.openFile(o.Path, true)
	if err != nil {
		return err
	}
	if s.Format == "" {
		head := make([]byte, min(headSize, size))
		if _, err := f.ReadAt(head, 0); err != nil {
			return err
		}
		if s.Format, err = Detect(head, o.Path); err != nil {
			return err
		}
	}
	switch s.Format {
	case VMA:
		return s.openArchive(f, o.Path, o)
	case QCOW2:
		return s.openQCOW2(f, size, o)
	}
	return s.openImage([]layer{rawLayer{f, size}}, o)
}

func (s *Source) openStream(in *bufio.Reader, o Options) (err error) {
	if s.Format == "" {
		head, err := in.Peek(headSize)
		if err != nil && err != io.EOF {
			return fmt.Errorf("read standard input: %w", err)
		}
		if len(head) == 0 {
			return errors.New("nothing came from standard input")
		}
		if s.Format, err = Detect(head, "-"); err != nil {
			return err
		}
	}
	switch {
	case s.Format == VMA && o.Size != 0:
		return &UsageError{"--size is for a raw disk; an archive tells the sizes of its disks", ""}
	case s.Format == VMA:
		return s.openArchive(in, "the archive from standard input", o)
	case s.Format == QCOW2:
		return &UsageError{"a qcow2 image cannot be read from standard input: its tables are anywhere in it",
			"import the file by its name, or pipe its content as a raw disk, with --size"}
	case o.Size <= 0:
		return &UsageError{"what comes from standard input is taken for a raw disk, whose size is not known", "tell it with --size, or the format with --format"}
	}
	if err := s.oneDisk(o, o.Size); err != nil {
		return err
	}
	s.copy = func(out *output) error { return copyStream(out, in, o.Size) }
	return nil
}

func (s *Source) openArchive(in io.Reader, what string, o Options) error {
	if o.Disk != "" || o.Backing {
		return &UsageError{"--disk and --backing are for an image of one disk; " + what + " is a VMA archive, whose disks --map renames", ""}
	}
	r, err := vma.NewReader(in)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	h := r.Header()
	s.Created = h.Created
	for _, c := range h.Configs {
		s.Configs = append(s.Configs, Config(c))
	}
	a := &archive{r: r}
	for i := range a.disks {
		a.disks[i] = -1
	}
	used := map[string]bool{}
	for _, d := range h.Devices {
		if d.Memory() {
			s.Skipped = append(s.Skipped, d.Name)
			continue
		}
		name := d.Name
		if to, ok := o.Map[name]; ok {
			used[name] = true
			name = to
		}
		a.disks[d.ID] = len(s.Disks)
		a.sizes[d.ID] = d.Size
		s.Disks = append(s.Disks, Disk{name, d.Size})
	}
	for name := range o.Map {
		if !used[name] {
			return &UsageError{fmt.Sprintf("--map %s=…: the archive has no device of that name", name), "it has " + deviceNames(h.Devices)}
		}
	}
	s.copy = func(out *output) error {
		if err := a.copy(out); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	}
	return nil
}

func deviceNames(devices []vma.Device) string {
	var list []string
	for _, d := range devices {
		list = append(list, fmt.Sprintf("%.130q", d.Name))
	}
	return strings.Join(list, ", ")
}

func (s *Source) openQCOW2(f *os.File, size int64, o Options) error {
	q, err := qcow2.Open(f, size)
	if err != nil {
		return fmt.Errorf("%s: %w", o.Path, err)
	}
	layers := []layer{qcow2Layer{q, o.Path}}
	if name, _ := q.Backing(); name != "" {
		if !o.Backing {
			return &UsageError{fmt.Sprintf("%s holds only what differs from its backing file %q", o.Path, name),
				"import both as one disk with --backing"}
		}
		if layers, err = s.follow(f, layers[0].(qcow2Layer)); err != nil {
			return err
		}
	}
	return s.openImage(layers, o)
}

func (s *Source) openImage(layers []layer, o Options) error {
	size := layers[0].Size()
	if err := s.oneDisk(o, size); err != nil {
		return err
	}
	s.copy = func(out *output) error { return copyImage(out, layers) }
	return nil
}

// oneDisk names the disk of an image.
func (s *Source) oneDisk(o Options, size int64) error {
	if len(o.Map) > 0 {
		return &UsageError{"--map is for the devices of a VMA archive; --disk names the disk of an image", ""}
	}
	name := o.Disk
	if name == "" {
		name = s.Name
		for _, end := range []string{".qcow2", ".raw", ".img"} {
			name = strings.TrimSuffix(name, end)
		}
		if o.Path == "-" || !ids.IsName(name) {
			name = "vda"
		}
	}
	s.Disks = []Disk{{name, size}}
	return nil
}

// checkNames refuses what a server would, but says what to do about it.
func (s *Source) checkNames() error {
	if len(s.Disks) == 0 {
		return fmt.Errorf("%s holds no disk", s.Name)
	}
	seen := map[string]bool{}
	for _, d := range s.Disks {
		hint := "name it with --disk"
		if s.Format == VMA {
			hint = "rename it with --map 'DEVICE=DISK'"
		}
		switch {
		case !ids.IsName(d.Name):
			return &UsageError{fmt.Sprintf("%.130q cannot be the name of a disk: letters, digits and . _ - after a letter or digit, 128 at most", d.Name), hint}
		case seen[d.Name]:
			return &UsageError{"two disks are to be named " + d.Name, hint}
		case d.Size <= 0:
			return fmt.Errorf("disk %s is empty", d.Name)
		}
		seen[d.Name] = true
	}
	for _, c := range s.Configs {
		if !ids.IsName(c.Name) {
			return fmt.Errorf("the archive's configuration file %.130q has a name that a point's blob cannot have", c.Name)
		}
	}
	return nil
}
