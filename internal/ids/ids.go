// Package ids makes the identifiers of points, sessions and exports, and knows
// the shape of every name a user may give.
package ids

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"regexp"
	"time"
)

var crockford = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// New makes a 16-character id that sorts by time: 48 bits of Unix milliseconds
// and 32 random bits.
func New(now time.Time) string {
	var b [10]byte
	binary.BigEndian.PutUint64(b[:8], uint64(now.UnixMilli())<<16)
	rand.Read(b[6:])
	return crockford.EncodeToString(b[:])
}

// Token makes a 26-character unguessable name of 128 random bits.
func Token() string {
	var b [16]byte
	rand.Read(b[:])
	return crockford.EncodeToString(b[:])
}

var (
	idShape   = regexp.MustCompile(`^[0-9a-hjkmnp-tv-z]{16}$`)
	nameShape = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
)

// IsID reports whether s has the shape New gives.
func IsID(s string) bool { return idShape.MatchString(s) }

// IsName reports whether s may name a VM, disk, checkpoint, blob or label key.
func IsName(s string) bool { return nameShape.MatchString(s) }
