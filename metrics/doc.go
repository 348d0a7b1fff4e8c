// Package metrics exports the engines' Stats to Prometheus. It alone imports
// client_golang, and it imports nothing of the engines but their Stats structs:
// a scrape calls the functions in Sources and turns what they return into
// constant metrics, so that the engines count without knowing of it.
//
// Names begin with strongroom_; docs/OPERATIONS.md has the table, which a test
// compares with what is exported. The number of series is bounded: labels have
// fixed values but for VMs and disks: of the last backups lastBackupsMax are shown,
// and of the figures per VM and disk as many as Sources.Figures has.
package metrics
