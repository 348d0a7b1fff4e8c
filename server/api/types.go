package api

import (
	"time"
)

// Base is the path every endpoint begins with, but /healthz and /metrics.
const Base = "/api/v1"

// Info is what a client must know of a server.
type Info struct {
	Version string    `json:"version"`
	StoreID string    `json:"store_id"`
	Data    string    `json:"data"`
	NBD     NBDInfo   `json:"nbd"`
	SFTP    *SFTPInfo `json:"sftp,omitempty"` // not set: it is off
}

// NBDInfo says where the NBD server is. Empty fields: not listening there.
type NBDInfo struct {
	Address  string `json:"address,omitempty"` // host:port
	Socket   string `json:"socket,omitempty"`  // path on the server's host
	TLS      bool   `json:"tls"`               // offered on Address
	ForceTLS bool   `json:"force_tls"`         // required on Address
}

// BackupRequest opens a backup.
type BackupRequest struct {
	VM     string        `json:"vm"`
	Disks  []DiskRequest `json:"disks,omitempty"`  // may be left out with SFTP
	Mode   string        `json:"mode,omitempty"`   // full, incremental or auto; empty: auto
	Parent string        `json:"parent,omitempty"` // what the client believes its bitmap began at
	// ParentCheckpoint is the checkpoint the client's bitmap began at.
	ParentCheckpoint string            `json:"parent_checkpoint,omitempty"`
	Checkpoint       string            `json:"checkpoint,omitempty"` // the name this backup's bitmap has at the client
	Labels           map[string]string `json:"labels,omitempty"`
	Blobs            []Blob            `json:"blobs,omitempty"`
	TTLSeconds       int64             `json:"ttl_seconds,omitempty"` // 0: the server's default
	// Manual says that a person asked for this point: no limit removes it.
	Manual bool `json:"manual,omitempty"`
	// Branch says that the VM was set back to Parent, an older point, which
	// the new images go on from.
	Branch bool `json:"branch,omitempty"`
	// SFTP asks for a login of the job's own, to put files into the backup.
	SFTP bool `json:"sftp,omitempty"`
}

// DiskRequest names a disk and its size in bytes.
type DiskRequest struct {
	Disk string `json:"disk"`
	Size int64  `json:"size"`
}

// Blob is a file kept with a point. In JSON its data is base64.
type Blob struct {
	Name string `json:"name"`
	Data []byte `json:"data"`
}

// Backup is a session.
type Backup struct {
	Session string            `json:"session"`
	VM      string            `json:"vm"`
	State   string            `json:"state"` // open, committing, committed, aborted, expired or dead
	Reason  string            `json:"reason,omitempty"`
	Started time.Time         `json:"started"`
	Expires time.Time         `json:"expires"`
	Labels  map[string]string `json:"labels,omitempty"`
	Disks   []BackupDisk      `json:"disks"`
	Files   []BackupFile      `json:"files,omitempty"`
	SFTP    *BackupLogin      `json:"sftp,omitempty"`  // while open, of a backup that has a login
	Point   string            `json:"point,omitempty"` // once committed
	// Importing is how far a commit is that makes images of files.
	Importing *Progress `json:"importing,omitempty"`
}

// BackupDisk is one disk of a session. Export, URI and UnixURI are there while
// the session is open; whoever knows them can write the disk.
type BackupDisk struct {
	Disk         string `json:"disk"`
	Mode         string `json:"mode"`
	Parent       string `json:"parent,omitempty"`
	Size         int64  `json:"size"`
	Export       string `json:"export,omitempty"`
	URI          string `json:"uri,omitempty"`
	UnixURI      string `json:"unix_uri,omitempty"`
	WrittenBytes int64  `json:"written_bytes"`
	ZeroedBytes  int64  `json:"zeroed_bytes"`
	NewBytes     int64  `json:"new_bytes"`
	StoredBytes  int64  `json:"stored_bytes"`
}

// Receipt is the answer to a commit: the point exists and survives a power cut.
type Receipt struct {
	Point  string    `json:"point"`
	VM     string    `json:"vm"`
	Time   time.Time `json:"time"`
	Images []Image   `json:"images"`
	Files  []File    `json:"files,omitempty"`
}

// Image is one disk of a point.
type Image struct {
	Disk         string `json:"disk"`
	Size         int64  `json:"size"`
	Mode         string `json:"mode"`
	Parent       string `json:"parent,omitempty"`
	Root         string `json:"root"` // hex of the image's root hash
	Checkpoint   string `json:"checkpoint,omitempty"`
	WrittenBytes int64  `json:"written_bytes"` // data the client sent
	ZeroedBytes  int64  `json:"zeroed_bytes"`  // zeroed or trimmed by the client
	NewBytes     int64  `json:"new_bytes"`     // of it, what nobody had
	StoredBytes  int64  `json:"stored_bytes"`  // what that took, compressed
}

// VM is a machine with at least one point.
type VM struct {
	VM           string    `json:"vm"`
	Points       int       `json:"points"`
	Images       int       `json:"images"`
	LogicalBytes int64     `json:"logical_bytes"` // the sizes of all images
	Latest       string    `json:"latest"`        // newest point
	Time         time.Time `json:"time"`          // of the newest point
	Disks        []VMDisk  `json:"disks"`
}

// VMDisk is the newest image of one disk.
type VMDisk struct {
	Disk  string    `json:"disk"`
	Size  int64     `json:"size"`
	Point string    `json:"point"`
	Time  time.Time `json:"time"`
}

// Point is a recovery point.
type Point struct {
	Point   string            `json:"point"`
	VM      string            `json:"vm"`
	Time    time.Time         `json:"time"`
	Started time.Time         `json:"started"`
	Labels  map[string]string `json:"labels,omitempty"`
	Images  []Image           `json:"images"`
	Files   []File            `json:"files,omitempty"`
	Blobs   []BlobInfo        `json:"blobs,omitempty"`
	Manual  bool              `json:"manual,omitempty"` // asked for by a person
	// Sealed says that the point was a clone: a backup inherits from it only if
	// it names it as its parent.
	Sealed bool   `json:"sealed,omitempty"`
	Hold   string `json:"hold,omitempty"` // why it is held
	// LockedUntil is until when nothing can remove it.
	LockedUntil time.Time `json:"locked_until,omitzero"`
	// Trashed and Purge are when it was deleted and when it goes for good.
	Trashed time.Time `json:"trashed,omitzero"`
	Purge   time.Time `json:"purge,omitzero"`
}

// BlobInfo is a blob without its bytes.
type BlobInfo struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // hex
}

// Stats is the state of the store in figures. Counters begin at 0 when the
// server starts; they are marked so.
type Stats struct {
	VMs          int64            `json:"vms"`
	Points       int64            `json:"points"`
	Images       int64            `json:"images"`
	LogicalBytes int64            `json:"logical_bytes"` // the sizes of all images together
	LatestBytes  int64            `json:"latest_bytes"`  // the sizes of the newest image of every disk
	StoredBytes  int64            `json:"stored_bytes"`  // bytes of all packs
	Packs        int64            `json:"packs"`
	Sessions     map[string]int64 `json:"sessions"` // by state
	Connections  int64            `json:"nbd_connections"`
	SFTPClients  int64            `json:"sftp_connections"`
	// Since the server started:
	Uptime       float64 `json:"uptime_seconds"`
	WrittenBytes int64   `json:"written_bytes"` // data put into the store
	NewBytes     int64   `json:"new_bytes"`     // of it, what nobody had
	PackedBytes  int64   `json:"packed_bytes"`  // what that took, compressed
	// The file system of the store:
	CapacityBytes int64 `json:"capacity_bytes"`
	FreeBytes     int64 `json:"free_bytes"`
	ReserveBytes  int64 `json:"reserve_bytes"`
	// UsableBytes is what clients can still store: free and not held back.
	UsableBytes int64 `json:"usable_bytes"`
	// ReclaimableBytes is what collection can free, TrashBytes what emptying the
	// trash would add, both as of the last look.
	ReclaimableBytes int64 `json:"reclaimable_bytes"`
	TrashPoints      int64 `json:"trash_points"`
	TrashBytes       int64 `json:"trash_bytes"`
}

// Health is the answer of /healthz.
type Health struct {
	Status string `json:"status"` // ok, draining or failed
	Reason string `json:"reason,omitempty"`
	// Warnings are what an operator should look at; the server works all the same.
	Warnings []string `json:"warnings,omitempty"`
}
