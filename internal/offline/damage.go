package offline

import (
	"fmt"
	"strings"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
)

// Damage is a part of a disk or file that cannot be given back.
type Damage struct {
	Offset int64      `json:"offset"` // on the disk or in the file, bytes
	Length int64      `json:"length"`
	Block  dedup.Addr `json:"-"` // where it should be; 0 for a chunk
	Reason string     `json:"reason"`
}

func (d Damage) String() string {
	return fmt.Sprintf("%d bytes at %d: %s", d.Length, d.Offset, d.Reason)
}

// damages collects what is found.
type damages struct {
	list  []Damage // the first of them
	count int64
	bytes int64
}

func (d *damages) add(more ...Damage) {
	for _, x := range more {
		d.count++
		d.bytes += x.Length
		if len(d.list) < damageListed {
			d.list = append(d.list, x)
		}
	}
}

// DamageError says that a disk or file cannot be given back whole. It matches
// dedup.ErrDamaged.
type DamageError struct {
	VM, Point string
	Disk      string   // the disk, "" if it is a file
	File      string   // the file
	Damage    []Damage // the first parts found; there may be more
}

func (e *DamageError) Error() string {
	var parts []string
	for _, d := range e.Damage {
		parts = append(parts, d.String())
	}
	name := partName(e.Disk)
	if e.File != "" {
		name = partName(catalog.FileKey(e.File))
	}
	return fmt.Sprintf("%s of VM %s at point %s is damaged: %s", name, e.VM, e.Point, strings.Join(parts, "; "))
}

// Is makes errors.Is(err, dedup.ErrDamaged) true.
func (e *DamageError) Is(target error) bool { return target == dedup.ErrDamaged }
