package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/mutant"
)

// TestTableFitsCode: every mutant of the table is planted, and no other.
func TestTableFitsCode(t *testing.T) {
	if err := compareWithCode("../../.."); err != nil {
		t.Error(err)
	}
	seen := map[string]bool{}
	for _, m := range mutants {
		if seen[m.name] || m.what == "" || len(m.tests) == 0 {
			t.Errorf("%+v", m)
		}
		seen[m.name] = true
	}
}

// TestNobodyLives: without the build tag no fault is planted.
func TestNobodyLives(t *testing.T) {
	t.Setenv("STRONGROOM_MUTANT", mutants[0].name)
	if mutant.On(mutants[0].name) {
		t.Error("a mutant lives")
	}
}

func TestFailedTest(t *testing.T) {
	for want, out := range map[string]string{
		"TestA/b":        "--- FAIL: TestA (0.01s)\n    --- FAIL: TestA/b (0.00s)\n        x\nFAIL\n",
		"hangs in TestC": "panic: test timed out after 2m0s\n\trunning tests:\n\t\tTestC (2m0s)\n",
		"panic":          "panic: boom\n\ngoroutine 1 [running]:\n",
	} {
		if got := failedTest([]byte(out)); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestPrint(t *testing.T) {
	var out bytes.Buffer
	err := print(&out, []result{{fault: fault{name: "a/b"}, caughtBy: "p TestX"}, {fault: fault{name: "c/d"}}}, 0)
	if err == nil || !strings.Contains(err.Error(), "c/d") || !strings.Contains(out.String(), "1 of 2") || !strings.Contains(out.String(), "p TestX") {
		t.Errorf("%v\n%s", err, out.String())
	}
}
