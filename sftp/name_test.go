package sftp

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestResolve(t *testing.T) {
	long := strings.Repeat("n", 255)
	for raw, want := range map[string]string{
		"": "/", ".": "/", "/": "/", "..": "/", "/..": "/", "../../etc/passwd": "/etc/passwd", "//": "/",
		"a": "/a", "/a/": "/a", "a/../b": "/b", "/a/./b//c": "/a/b/c", "/a/../../../b": "/b", "a/b/..": "/a",
		"...": "/...", "a..": "/a..", "..a": "/..a", `..\..\x`: `/..\..\x`, "/" + long: "/" + long, "ä": "/ä",
		strings.Repeat("a/", 64): "/" + strings.TrimSuffix(strings.Repeat("a/", 64), "/"),
	} {
		if got, err := resolve(raw); err != nil || got != want {
			t.Errorf("%q became %q, %v; want %q", raw, got, err, want)
		}
	}
	for _, raw := range []string{
		"a\x00b", "/a\n", "x/\x7f/../y", "\xff", "a/\xc0\xae\xc0\xae/b", "\u0085", long + "n", "/a/" + long + "n/../b",
		strings.Repeat("a/", 65), strings.Repeat("/", 4097),
	} {
		if got, err := resolve(raw); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q became %q, %v; want an error", raw, got, err)
		}
	}
}

// pieces are what traversal names are made of.
var pieces = []string{
	"..", ".", "/", "//", "a", "etc", "passwd", "\x00", "%2e%2e", "%2f", "..%00", `\`, `..\`, "....//", "..;", "\xc0\xae", "\u2025",
	"\uff0e\uff0e", "~", "~root", "-", "C:", "con", " ", "\n", "\r", "\t", "\x7f", "\xff", "\u202e", "restore", "\ufeff", "../", "/..", "./..",
}

// traversal is a random name that wants out.
func traversal(rng *rand.Rand) string {
	var b strings.Builder
	for range 1 + rng.IntN(12) {
		b.WriteString(pieces[rng.IntN(len(pieces))])
		if rng.IntN(2) == 0 {
			b.WriteByte('/')
		}
	}
	return b.String()
}

// checkResolved says what is wrong with what resolve answered.
func checkResolved(name string, err error) string {
	if err != nil {
		if !errors.Is(err, fs.ErrInvalid) || name != "" {
			return "an error of another kind, or with a name"
		}
		return ""
	}
	if name == "/" {
		return ""
	}
	if name == "" || name[0] != '/' || strings.HasSuffix(name, "/") {
		return "not absolute and clean"
	}
	parts := strings.Split(name[1:], "/")
	for _, part := range parts {
		if part == "" || part == "." || part == ".." || checkComponent(part) != nil {
			return "a component that must not be"
		}
	}
	if again, err := resolve(name); err != nil || again != name || len(parts) > depthMax {
		return "not its own name"
	}
	return ""
}

// seeded is a generator whose seed is STRONGROOM_SEED or a new one, and logged.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("STRONGROOM_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("STRONGROOM_SEED: %v", err)
		}
	}
	t.Logf("STRONGROOM_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 2))
}

// TestMillionTraversals resolves a million generated names.
func TestMillionTraversals(t *testing.T) {
	rng := seeded(t)
	refused := 0
	for range 1000000 {
		raw := traversal(rng)
		name, err := resolve(raw)
		if problem := checkResolved(name, err); problem != "" {
			t.Fatalf("%q became %q, %v: %s", raw, name, err, problem)
		}
		if err != nil {
			refused++
		}
	}
	if refused == 0 || refused == 1000000 {
		t.Errorf("%d of a million refused; the names are of no use", refused)
	}
}

func FuzzResolve(f *testing.F) {
	for _, p := range pieces {
		f.Add("/a/" + p + "/../" + p)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		name, err := resolve(raw)
		if problem := checkResolved(name, err); problem != "" {
			t.Fatalf("%q became %q, %v: %s", raw, name, err, problem)
		}
	})
}
