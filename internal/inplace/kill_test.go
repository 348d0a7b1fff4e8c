package inplace

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// childVariable makes the test binary a restore: TARGET:WANTED:N, which kills
// itself when it is about to do the N-th write.
const childVariable = "STRONGROOM_INPLACE_CHILD"

func child() {
	parts := strings.Split(os.Getenv(childVariable), ":")
	n, err := strconv.ParseInt(parts[2], 10, 64)
	if err == nil {
		err = childRun(parts[0], parts[1], n)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func childRun(name, wanted string, n int64) error {
	content, err := os.ReadFile(wanted)
	if err != nil {
		return err
	}
	target, err := Open(context.Background(), name)
	if err != nil {
		return err
	}
	journal, err := DefaultJournal(target)
	if err != nil {
		return err
	}
	p := &point{content: content}
	c := &counted{Target: target, onWrite: func(k int64) {
		if k == n {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}}
	_, err = Restore{Ref: testRef, Source: p, Target: c, Journal: journal, Hashes: p.stream, Resize: true}.Run(context.Background())
	return err
}

// A restore that is killed at random, again and again, leaves a journal each time
// once it has begun to write, and what comes after it completes it.
func TestKilled(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 10))
	const kills = 20
	killed := 0
	for killed < kills {
		want, have := newContent(rng, 1<<20+512), newContent(rng, 1<<20+rng.IntN(2)*4096)
		path := writeFile(t, have)
		wanted := filepath.Join(t.TempDir(), "wanted")
		if err := os.WriteFile(wanted, want, 0o600); err != nil {
			t.Fatal(err)
		}
		journal := filepath.Join(filepath.Dir(path), ".disk.raw.strongroom-inplace")
		for round := 0; ; round++ {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s:%s:%d", childVariable, path, wanted, 1+rng.IntN(10)))
			out, err := cmd.CombinedOutput()
			_, left := os.Lstat(journal)
			var exit *exec.ExitError
			switch {
			case err == nil && left == nil:
				t.Fatal("a restore that ended well left its journal")
			case err == nil:
			case errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL:
				if left != nil {
					t.Fatal("a restore that was killed while writing left no journal")
				}
				if killed++; round < 40 {
					continue
				}
			default:
				t.Fatalf("%v: %s", err, out)
			}
			break
		}
		target := open(t, path)
		r := job(t, &point{content: want}, target)
		r.Resize = true
		mustRun(t, r)
		mustHold(t, target, want)
		target.Close()
	}
	t.Logf("%d restores were killed", killed)
}
