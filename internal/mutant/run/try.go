package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// tryTime is when a test that a mutant makes hang counts as one that failed.
const tryTime = 2 * time.Minute

// binaries are the test binaries of the packages, built with mutants in them.
type binaries struct {
	dir  string
	seed string
}

func (b *binaries) remove() { os.RemoveAll(b.dir) }

func (b *binaries) path(pkg string) string {
	return filepath.Join(b.dir, strings.ReplaceAll(pkg, "/", "_")+".test")
}

// build builds the tests of every package the mutants name.
func build(ctx context.Context, list []fault, seed string) (*binaries, error) {
	dir, err := os.MkdirTemp("", "strongroom-mutants-")
	if err != nil {
		return nil, err
	}
	b := &binaries{dir: dir, seed: seed}
	done := map[string]bool{}
	for _, m := range list {
		for _, t := range m.tests {
			if done[t.pkg] {
				continue
			}
			done[t.pkg] = true
			cmd := exec.CommandContext(ctx, "go", "test", "-c", "-tags", "mutants", "-o", b.path(t.pkg), "./"+t.pkg)
			if out, err := cmd.CombinedOutput(); err != nil {
				b.remove()
				return nil, fmt.Errorf("build the tests of %s: %w\n%s", t.pkg, err, out)
			}
		}
	}
	return b, nil
}

// healthy runs every test once without a mutant: it must pass.
func (b *binaries) healthy(ctx context.Context, list []fault) error {
	done := map[test]bool{}
	for _, m := range list {
		for _, t := range m.tests {
			if done[t] {
				continue
			}
			done[t] = true
			if out, err := b.run(ctx, t, ""); err != nil {
				return fmt.Errorf("%s of %s fails without a mutant: %w\n%s", t.run, t.pkg, err, out)
			}
		}
	}
	return ctx.Err()
}

// result is what became of a mutant.
type result struct {
	fault
	caughtBy string
	took     time.Duration
}

// try runs a mutant's tests until one fails.
func (b *binaries) try(ctx context.Context, m fault) result {
	r := result{fault: m}
	start := time.Now()
	for _, t := range m.tests {
		out, err := b.run(ctx, t, m.name)
		if err != nil && ctx.Err() == nil {
			r.caughtBy = t.pkg + " " + failedTest(out)
			break
		}
	}
	r.took = time.Since(start)
	return r
}

// run runs one package's tests with a mutant alive. The tests of this module
// find their files by the directory they run in.
func (b *binaries) run(ctx context.Context, t test, name string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, b.path(t.pkg), "-test.run", t.run, "-test.failfast", "-test.timeout", tryTime.String())
	cmd.Dir = t.pkg
	cmd.Env = append(os.Environ(), "STRONGROOM_MUTANT="+name, "STRONGROOM_SEED="+b.seed)
	if t.soak > 1 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("STRONGROOM_SOAK=%d", t.soak))
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.Bytes(), err
}

var (
	failedLine = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
	running    = regexp.MustCompile(`(?m)^\s+(Test\S+) \(`)
)

// failedTest is the innermost test that failed; one that died or hung is named
// by what the runtime said.
func failedTest(out []byte) string {
	if all := failedLine.FindAllSubmatch(out, -1); len(all) > 0 {
		return string(all[len(all)-1][1])
	}
	what := "panic"
	if bytes.Contains(out, []byte("panic: test timed out")) {
		what = "hangs"
		if m := running.FindSubmatch(out); m != nil {
			what += " in " + string(m[1])
		}
	}
	return what
}
