package catalog

import (
	"encoding/binary"
	"time"
)

// The flags of a point.
const (
	flagManual = 1 // made by hand
	flagSealed = 2 // was a clone
	flagsKnown = flagManual | flagSealed
)

// appendAttributes encodes flags, the hold's reason, and until when the point
// is locked, since when it is in the trash and when it may go from there, each
// 0 for never.
func appendAttributes(b []byte, a *Attributes) []byte {
	flags := uint64(0)
	if a.Manual {
		flags |= flagManual
	}
	if a.Sealed {
		flags |= flagSealed
	}
	b = binary.AppendUvarint(b, flags)
	b = appendString(b, a.Hold)
	for _, t := range []time.Time{a.LockedUntil, a.Trashed, a.Purge} {
		b = appendOptional(b, t)
	}
	return b
}

func (d *decoder) attributes() Attributes {
	flags := d.size(flagsKnown)
	return Attributes{Manual: flags&flagManual != 0, Sealed: flags&flagSealed != 0, Hold: d.string(MaxHoldBytes),
		LockedUntil: d.optional(), Trashed: d.optional(), Purge: d.optional()}
}

// appendStored encodes a point as the database keeps it: as the log has it, its
// attributes, and of each image what was merged into it and went before it.
func appendStored(b []byte, p *Point) []byte {
	b = appendPoint(b, p)
	b = appendAttributes(b, &p.Attributes)
	for i := range p.Images {
		b = appendOptional(b, p.Images[i].Merged)
		b = appendString(b, p.Images[i].MergedFrom)
		b = binary.AppendUvarint(b, uint64(p.Images[i].Gone))
	}
	return b
}

func decodeStored(b []byte) (Point, error) {
	d := decoder{b: b}
	p := d.point()
	p.Attributes = d.attributes()
	for i := range p.Images {
		p.Images[i].Merged, p.Images[i].MergedFrom = d.optional(), d.string(maxName)
		p.Images[i].Gone = d.int64()
	}
	return p, d.end()
}
