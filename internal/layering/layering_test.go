package layering

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/strongroom-backup/strongroom/"

// layers are the packages of the product from the top down; a package may
// import those in the rows below its own, its own sub-packages, and internal/.
// Packages of one row do not import each other.
var layers = [][]string{
	{"bench", "integration"},
	{"cmd/strongroom"},
	{"server"},
	{"metrics"},
	{"maintenance", "files"},
	{"nbd", "sftp", "volume", "internal/offline"},
	{"catalog"},
	{"dedup"},
	{"tier"},
	{"etc"},
	{"internal"},
}

// only are the packages that may import less than their layer allows; the
// longest name that fits counts.
var only = map[string][]string{
	"internal/offline": {"catalog", "dedup", "tier", "internal"},
	"nbd":              {"internal"}, // a protocol server knows nothing of backups
	"sftp":             {"internal"},
	"files":            {"sftp", "volume", "catalog", "dedup", "tier", "internal"},
	"server/api":       {}, // a contract and its client
	"internal":         {"internal"},
	"etc":              {},
}

// owners are the outside modules that belong to few packages.
var owners = map[string][]string{
	"github.com/prometheus/client_golang": {"metrics"},
	"github.com/urfave/cli":               {"cmd/strongroom"},
	"github.com/schollz/progressbar":      {"cmd/strongroom"},
	"log/slog":                            {"cmd/strongroom", "server", "metrics", "bench", "integration"},
}

// rule is the entry of only for a package; "" when it has none.
func rule(pkg string) (longest string) {
	for name := range only {
		if within(pkg, name) && len(name) > len(longest) {
			longest = name
		}
	}
	return longest
}

// row is where a package stands; the first that fits counts.
func row(pkg string) int {
	return slices.IndexFunc(layers, func(names []string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return within(pkg, name) })
	})
}

// within reports whether pkg is name or below it.
func within(pkg, name string) bool { return pkg == name || strings.HasPrefix(pkg, name+"/") }

// problem says what is wrong with an import; "" when nothing is.
func problem(pkg, imported string) string {
	top := func(p string) string {
		return layers[row(p)][slices.IndexFunc(layers[row(p)], func(n string) bool { return within(p, n) })]
	}
	switch {
	case row(pkg) < 0:
		return pkg + " is in no layer: add it to layers"
	case row(imported) < 0:
		return imported + " is in no layer: add it to layers"
	}
	if name := rule(pkg); name != "" {
		allowed := only[name]
		if !slices.ContainsFunc(allowed, func(a string) bool { return within(imported, a) }) && !within(imported, name) && !suite(pkg, imported) {
			return pkg + " imports " + imported + ", but may only import " + strings.Join(allowed, ", ")
		}
	}
	if row(imported) > row(pkg) || top(imported) == top(pkg) {
		return ""
	}
	return pkg + " imports " + imported + ", which is not below it"
}

// suite reports whether pkg is a conformance suite (nbd/nbdtest) of what it imports.
func suite(pkg, imported string) bool { return strings.HasSuffix(pkg, "test") && within(pkg, imported) }

func list(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func TestImportsGoDown(t *testing.T) {
	for _, line := range list(t) {
		fields := strings.Fields(line)
		pkg := strings.TrimPrefix(fields[0], module)
		if row(pkg) < 0 {
			t.Errorf("%s is in no layer: add it to layers", pkg)
			continue
		}
		for _, imported := range fields[1:] {
			if p, ours := strings.CutPrefix(imported, module); ours {
				if text := problem(pkg, p); text != "" {
					t.Error(text)
				}
			}
			for name, allowed := range owners {
				if within(imported, name) && !slices.ContainsFunc(allowed, func(a string) bool { return within(pkg, a) }) {
					t.Errorf("%s imports %s, which only %s may", pkg, imported, strings.Join(allowed, ", "))
				}
			}
		}
	}
}

// The rules themselves.
func TestProblem(t *testing.T) {
	for _, x := range []struct {
		pkg, imported string
		ok            bool
	}{
		{"cmd/strongroom", "server", true},
		{"server", "volume", true},
		{"server", "server/api", true},
		{"volume", "catalog", true},
		{"catalog", "catalog/metalog", true},
		{"dedup", "tier", true},
		{"nbd", "internal/hist", true},
		{"nbd/nbdtest", "nbd", true},
		{"tier", "internal/atomicfile", true},
		{"integration/demo", "integration/rig", true},
		{"metrics", "volume", true},
		{"cmd/strongroom", "internal/offline", true},
		{"internal/offline", "catalog", true},
		{"internal/offline", "internal/qcow2", true},
		{"internal/offline", "volume", false},
		{"internal/restore", "internal/offline", false},
		{"nbd", "internal/offline", false},
		{"nbd", "volume", false},
		{"volume", "nbd", false},
		{"server", "files", true},
		{"files", "sftp", true},
		{"files", "volume", true},
		{"files", "nbd", false},
		{"files", "maintenance", false},
		{"volume", "files", false},
		{"sftp", "files", false},
		{"sftp", "volume", false},
		{"nbd", "tier", false},
		{"dedup", "catalog", false},
		{"tier", "dedup", false},
		{"internal/ids", "dedup", false},
		{"internal/ids", "etc", false},
		{"catalog", "server/api", false},
		{"server/api", "volume", false},
		{"server", "cmd/strongroom", false},
		{"server", "integration/rig", false},
		{"metrics", "server", false},
		{"new", "dedup", false},
	} {
		if got := problem(x.pkg, x.imported); (got == "") != x.ok {
			t.Errorf("%s imports %s: %q", x.pkg, x.imported, got)
		}
	}
}
