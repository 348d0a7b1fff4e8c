package main

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
)

func TestReorder(t *testing.T) {
	app := newApp(&env{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard})
	for _, x := range []struct{ in, want string }{
		{"", ""},
		{"--help", "--help"},
		{"vm ls", "vm ls"},
		{"vm ls --json", "vm ls --json"},
		{"backup start vm1 --disk vda=1", "backup start --disk vda=1 vm1"},
		{"backup start --disk=vda=1 vm1 --json --label a=b", "backup start --disk=vda=1 --json --label a=b vm1"},
		{"restore vm1 -o x --format qcow2", "restore -o x --format qcow2 vm1"},
		{"point rm ref -y", "point rm -y ref"},
		{"point rm -- -odd -y", "point rm -- -odd -y"},
		{"point rm a -- -y", "point rm -- a -y"},
		{"point show a b --json c", "point show --json a b c"},
		{"backup start vm1 --nosuch x", "backup start --nosuch vm1 x"},
		{"backup start vm1 --disk", "backup start --disk vm1"},
		{"nosuch --json", "--json nosuch"},
		{"restore vm --output -", "restore --output - vm"},
	} {
		got := reorder(app.Commands, app.Flags, strings.Fields(x.in))
		if !slices.Equal(got, strings.Fields(x.want)) {
			t.Errorf("%q: %q, want %q", x.in, got, x.want)
		}
	}
}

func TestTable(t *testing.T) {
	tb := newTable("NAME", ">SIZE", "NOTE")
	tb.add("a", "1", "x")
	tb.add("Größe", "1234", "")
	var out bytes.Buffer
	if err := tb.print(&out); err != nil {
		t.Fatal(err)
	}
	want := "NAME   SIZE  NOTE\na         1  x\nGröße  1234\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

// Every leaf command has a usage, an action and, if it asks a server, --api.
func TestCommandsAreComplete(t *testing.T) {
	app := newApp(&env{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard})
	for _, c := range app.Commands {
		for _, leaf := range append(c.Subcommands, c) {
			if leaf.Usage == "" || leaf.Action == nil || len(leaf.Subcommands) == 0 && !strings.Contains(leaf.Description, "Exit codes") {
				t.Errorf("%s %s is incomplete", c.Name, leaf.Name)
			}
		}
	}
}
