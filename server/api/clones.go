package api

import (
	"time"
)

// CloneRequest makes a clone: writable disks over those of a point.
type CloneRequest struct {
	Ref    string            `json:"ref"`             // VM[/DISK][@POINT] or a point's id
	Disks  []string          `json:"disks,omitempty"` // none: all, or the reference's
	Labels map[string]string `json:"labels,omitempty"`
}

// The states of a clone.
const (
	// CloneOpen takes writes.
	CloneOpen = "open"
	// CloneSealing is being made a point, or was when the server ended; ask again.
	CloneSealing = "sealing"
	// CloneStale has lost writes that were answered and not flushed; it can be
	// resumed as at the last flush.
	CloneStale = "stale"
	// CloneDead cannot be read any more, only discarded.
	CloneDead = "dead"
	// CloneSealed and CloneDiscarded are the ends.
	CloneSealed    = "sealed"
	CloneDiscarded = "discarded"
)

// Clone is a set of writable disks over those of a point.
type Clone struct {
	Clone   string            `json:"clone"` // its id
	VM      string            `json:"vm"`
	Base    string            `json:"base"` // the point it is over, which stays as long
	State   string            `json:"state"`
	Reason  string            `json:"reason,omitempty"` // why it is stale or dead
	Created time.Time         `json:"created"`
	Labels  map[string]string `json:"labels,omitempty"`
	Disks   []CloneDisk       `json:"disks"`
	Point   string            `json:"point,omitempty"` // once sealed
}

// CloneDisk is one disk of a clone. Export, URI and UnixURI are there while the
// clone is open; whoever knows them can write the disk.
type CloneDisk struct {
	Disk         string `json:"disk"`
	Size         int64  `json:"size"`
	Export       string `json:"export,omitempty"`
	URI          string `json:"uri,omitempty"`
	UnixURI      string `json:"unix_uri,omitempty"`
	WrittenBytes int64  `json:"written_bytes"`
	ZeroedBytes  int64  `json:"zeroed_bytes"`
	NewBytes     int64  `json:"new_bytes"`
	StoredBytes  int64  `json:"stored_bytes"`
	JournalBytes int64  `json:"journal_bytes"` // of the file that says where the writes lie
	// Clients are who has the export open, as the log names them.
	Clients []CloneClient `json:"clients,omitempty"`
}

// CloneClient is a connection to a disk of a clone.
type CloneClient struct {
	Peer string `json:"peer"`          // NETWORK:ADDRESS#NUMBER, as in the log
	PID  int    `json:"pid,omitempty"` // the process that connected to the unix socket
	TLS  string `json:"tls,omitempty"` // the version, when TLS is on
}
