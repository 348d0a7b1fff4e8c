package units

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration whose text may begin with days.
type Duration time.Duration

// Day is what d stands for: 24 hours, whatever the calendar does.
const Day = 24 * time.Hour

// ParseDuration reads a duration that is not negative.
func ParseDuration(text string) (Duration, error) {
	bad := fmt.Errorf("duration %.40q: want a number with s, m, h or d, such as 90s, 24h or 7d", text)
	days, rest, found := strings.Cut(text, "d")
	if !found {
		days, rest = "0", text
	}
	n, err := strconv.ParseUint(days, 10, 32)
	if err != nil || n > 36500 {
		return 0, bad
	}
	d := time.Duration(n) * Day
	if found && rest == "" {
		return Duration(d), nil
	}
	tail, err := time.ParseDuration(rest)
	if err != nil || tail < 0 || d+tail < 0 {
		return 0, bad
	}
	return Duration(d + tail), nil
}

// String prints the duration without trailing zero parts: 24h, not 24h0m0s.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// UnmarshalText makes Duration usable in configuration files.
func (d *Duration) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDuration(string(text))
	return err
}

// MarshalText is the inverse of UnmarshalText.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }
