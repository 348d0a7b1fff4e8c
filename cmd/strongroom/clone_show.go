package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

// cloneSums are a clone's disks together.
type cloneSums struct {
	size, written, stored int64
	clients               int
}

func cloneTotals(x api.Clone) (s cloneSums) {
	for _, d := range x.Disks {
		s.size += d.Size
		s.written += d.WrittenBytes
		s.stored += d.StoredBytes
		s.clients += len(d.Clients)
	}
	return s
}

func showClones(w io.Writer, list []api.Clone) error {
	t := newTable("CLONE", "VM", "BASE", "STATE", "CREATED", ">DISKS", ">SIZE", ">WRITTEN", ">STORED", ">CLIENTS", "LABELS")
	for _, x := range list {
		s := cloneTotals(x)
		t.add(x.Clone, x.VM, x.Base, x.State, when(x.Created), fmt.Sprint(len(x.Disks)), units.Human(s.size), units.Human(s.written),
			units.Human(s.stored), fmt.Sprint(s.clients), printable(labels(x.Labels)))
	}
	return t.print(w)
}

func showClone(_ *env, w io.Writer, x api.Clone, _ bool) error {
	if err := cloneHead(w, x); err != nil {
		return err
	}
	figures := newTable("DISK", ">SIZE", ">WRITTEN", ">ZEROED", ">NEW", ">STORED", ">JOURNAL")
	clients := newTable("DISK", "CLIENT", ">PROCESS", "TLS")
	for _, d := range x.Disks {
		figures.add(d.Disk, units.Human(d.Size), units.Human(d.WrittenBytes), units.Human(d.ZeroedBytes), units.Human(d.NewBytes),
			units.Human(d.StoredBytes), units.Human(d.JournalBytes))
		for _, c := range d.Clients {
			process := "-"
			if c.PID != 0 {
				process = fmt.Sprint(c.PID)
			}
			clients.add(d.Disk, printable(c.Peer), process, dash(c.TLS))
		}
	}
	tables := []*table{figures}
	if x.State == api.CloneOpen {
		tables = []*table{exportTable(x), figures}
	}
	return printTables(w, append(tables, clients)...)
}

// showNewClone is for who is about to use a clone.
func showNewClone(e *env, w io.Writer, x api.Clone, local bool) error {
	if err := cloneHead(w, x); err != nil {
		return err
	}
	if err := exportTable(x).print(w); err != nil {
		return err
	}
	if !isTerminal(e.stdout) {
		return nil
	}
	_, err := io.WriteString(w, cloneRecipe(x, local))
	return err
}

func cloneHead(w io.Writer, x api.Clone) error {
	return fields(w, "clone", x.Clone, "vm", x.VM, "base", x.Base, "state", x.State, "reason", x.Reason, "point", x.Point,
		"created", when(x.Created), "labels", printable(labels(x.Labels)))
}

func exportTable(x api.Clone) *table {
	t := newTable("DISK", ">SIZE", "URI")
	for _, d := range x.Disks {
		uris := slices.DeleteFunc([]string{d.URI, d.UnixURI}, func(u string) bool { return u == "" })
		t.add(d.Disk, units.Human(d.Size), dash(strings.Join(uris[:min(1, len(uris))], "")))
		for _, u := range uris[min(1, len(uris)):] {
			t.add("", "", u)
		}
	}
	return t
}
