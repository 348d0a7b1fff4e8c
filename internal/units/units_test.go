package units

import (
	"math"
	"testing"
	"time"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "1": 1, "512": 512, "512B": 512, "1K": KiB, "1KiB": KiB, "512M": 512 * MiB,
		"10GiB": 10 * GiB, "1.5GiB": 1536 * MiB, "2T": 2 * TiB, "1P": PiB,
		"9223372036854775807": math.MaxInt64,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "K", "GiB", "-1", "+1", "1KB", "1GB", "1gib", "1 GiB", "1GiBGiB", "0.3", "1e3", "0x10", "1/2",
		"9223372036854775808", "8388608T", "1BB", ".", "1..5K", "00000000000000000000000000000000000000001",
	} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", text, got)
		}
	}
}

func TestSizeRoundTrip(t *testing.T) {
	for _, n := range []Size{0, 1, 1023, 1024, 1025, MiB - 1, MiB, 10 * GiB, 3 * TiB / 2, math.MaxInt64} {
		if got, err := ParseSize(n.String()); err != nil || got != n {
			t.Errorf("%d prints as %q, which reads as %d, %v", n, n, got, err)
		}
	}
}

func TestHuman(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.00 KiB", 10 << 30: "10.0 GiB", 1536 << 20: "1.50 GiB", 100 << 40: "100 TiB",
	} {
		if got := Human(n); got != want {
			t.Errorf("Human(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0s": 0, "90s": 90 * time.Second, "24h": 24 * time.Hour, "7d": 7 * Day, "1d12h": 36 * time.Hour, "100ms": 100 * time.Millisecond,
	} {
		got, err := ParseDuration(text)
		if err != nil || time.Duration(got) != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", text, got, err, want)
		}
		if again, err := ParseDuration(got.String()); err != nil || again != got {
			t.Errorf("%v prints as %q, which reads as %v, %v", want, got, again, err)
		}
	}
	for _, text := range []string{"", "5", "-5s", "d", "1d-1h", "1w", "h", "99999999d"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("ParseDuration(%q) = %v, want an error", text, got)
		}
	}
	if got := Duration(24 * time.Hour).String(); got != "24h" {
		t.Errorf("24 h prints as %q", got)
	}
	if got := Duration(30 * time.Second).String(); got != "30s" {
		t.Errorf("30 s prints as %q", got)
	}
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"1", "10GiB", "1.5K", "1e9", "-1", "9999999999999P"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := ParseSize(text)
		if err == nil && n < 0 {
			t.Fatalf("ParseSize(%q) = %d", text, n)
		}
	})
}
