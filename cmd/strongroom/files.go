package main

import (
	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

// fileTable is of a point's files.
func fileTable(files []api.File) *table {
	t := newTable("FILE", ">SIZE", "DISK", ">WRITTEN", ">NEW", ">STORED", "MODIFIED", "ROOT")
	for _, f := range files {
		t.add(printable(f.Name), units.Human(f.Size), dash(f.Disk), units.Human(f.WrittenBytes), units.Human(f.NewBytes), units.Human(f.StoredBytes),
			when(f.Modified), f.Root[:min(16, len(f.Root))])
	}
	return t
}

// backupFileTable is of the files of an open backup.
func backupFileTable(files []api.BackupFile) *table {
	t := newTable("FILE", ">SIZE", ">WRITTEN", ">NEW", ">STORED", "MODIFIED", "STATE")
	for _, f := range files {
		t.add(printable(f.Name), units.Human(f.Size), units.Human(f.WrittenBytes), units.Human(f.NewBytes), units.Human(f.StoredBytes), when(f.Modified), fileState(f))
	}
	return t
}

// fileState says in a word whether a file can be committed; --json says why not.
func fileState(f api.BackupFile) string {
	switch {
	case f.Lost != "":
		return "lost"
	case f.Unfinished != "":
		return "unfinished"
	}
	return "whole"
}
