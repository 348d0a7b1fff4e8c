package units

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

// Size is a number of bytes, never negative when parsed.
type Size int64

// The binary multiples.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
	TiB Size = 1 << 40
	PiB Size = 1 << 50
)

// suffixes in the order String tries them.
var suffixes = []struct {
	name string
	size Size
}{{"PiB", PiB}, {"TiB", TiB}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}}

// sizeTextMax is far more than the longest size; longer text is not looked at.
const sizeTextMax = 32

// ParseSize reads a size. The error names the text and what is accepted.
func ParseSize(text string) (Size, error) {
	bad := fmt.Errorf("size %.40q: want bytes or a number with K, M, G, T (KiB, MiB, GiB, TiB), such as 10GiB", text)
	if len(text) > sizeTextMax {
		return 0, bad
	}
	digits := strings.TrimRight(text, "KMGTPiB")
	unit, ok := unitOf(text[len(digits):])
	if !ok || digits == "" || strings.Trim(digits, "0123456789.") != "" {
		return 0, bad
	}
	n, ok := new(big.Rat).SetString(digits)
	if !ok {
		return 0, bad
	}
	n.Mul(n, new(big.Rat).SetInt64(int64(unit)))
	if !n.IsInt() || !n.Num().IsInt64() {
		return 0, bad
	}
	return Size(n.Num().Int64()), nil
}

func unitOf(suffix string) (Size, bool) {
	if suffix == "" || suffix == "B" {
		return 1, true
	}
	for _, s := range suffixes {
		if suffix == s.name || suffix == s.name[:1] {
			return s.size, true
		}
	}
	return 0, false
}

// String prints the size exactly, with the largest unit that divides it.
func (s Size) String() string {
	for _, u := range suffixes {
		if s != 0 && s%u.size == 0 {
			return strconv.FormatInt(int64(s/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// UnmarshalText makes Size usable in configuration files.
func (s *Size) UnmarshalText(text []byte) (err error) {
	*s, err = ParseSize(string(text))
	return err
}

// MarshalText is the inverse of UnmarshalText.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Human prints bytes for a reader: three digits or so, and a unit.
func Human(n int64) string {
	for _, u := range suffixes {
		if v := float64(n) / float64(u.size); v >= 1 || v <= -1 {
			return fmt.Sprintf("%.*f %s", decimals(v), v, u.name)
		}
	}
	return strconv.FormatInt(n, 10) + " B"
}

func decimals(v float64) int {
	switch {
	case v < 10:
		return 2
	case v < 100:
		return 1
	}
	return 0
}
