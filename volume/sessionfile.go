package volume

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/internal/atomicfile"
	"github.com/strongroom-backup/strongroom/internal/ids"
)

// State is where a session stands.
type State string

// A session's states. Committing is only ever seen on disk and in Status while
// a commit runs; after a crash it becomes committed or open again.
const (
	Open       State = "open"
	Committing State = "committing"
	Committed  State = "committed"
	Aborted    State = "aborted"
	Expired    State = "expired"
	Dead       State = "dead"
	// Stale is a clone that lost writes which were acknowledged and not flushed.
	// ResumeClone opens it again.
	Stale State = "stale"
)

// sessionFormat 2 ends in a checksum; files of format 1 have none. Those of clones
// have format 3, so that a server which does not know of clones lets them alone.
const (
	sessionFormat = 2
	cloneFormat   = 3
)

// sessionFile is the content of session.json. It is replaced whole and synced
// at every change of state.
type sessionFile struct {
	Format  int               `json:"format"`
	ID      string            `json:"id"`
	VM      string            `json:"vm"`
	State   State             `json:"state"`
	Reason  string            `json:"reason,omitempty"`
	Point   string            `json:"point,omitempty"` // chosen when a commit begins
	BootID  string            `json:"boot_id"`         // of the host whose page cache holds un-flushed writes
	Started time.Time         `json:"started"`
	Expires time.Time         `json:"expires"`
	Ended   time.Time         `json:"ended,omitzero"`
	Labels  map[string]string `json:"labels,omitempty"`
	Manual  bool              `json:"manual,omitempty"`
	Blobs   []catalog.Blob    `json:"blobs,omitempty"`
	Disks   []diskFile        `json:"disks"`
	Clone   bool              `json:"clone,omitempty"`
	Base    string            `json:"base,omitempty"` // of a clone: the point its disks began as

	KeepsFiles bool           `json:"keeps_files,omitempty"`
	Import     ImportDefaults `json:"import,omitzero"`
	Files      []fileEntry    `json:"files,omitempty"`     // by id; dropped when the session ends
	NextFile   uint64         `json:"next_file,omitempty"` // larger than every id ever given
}

type diskFile struct {
	Disk       string       `json:"disk"`
	Size       int64        `json:"size"`
	Mode       catalog.Mode `json:"mode"`
	Parent     string       `json:"parent,omitempty"`
	Hint       string       `json:"hint,omitempty"`   // point to compare with; its absence costs only speed
	Branch     bool         `json:"branch,omitempty"` // Parent was not the newest image on purpose
	Why        string       `json:"why,omitempty"`    // mode auto became a full
	Token      string       `json:"token,omitempty"`  // none when it was added from a file
	Former     []string     `json:"former,omitempty"` // of a clone: the last tokens of before it was resumed
	Imported   bool         `json:"imported,omitempty"`
	Source     uint64       `json:"source,omitempty"` // the file it was understood from
	Checkpoint string       `json:"checkpoint,omitempty"`
	// Records is how many the journal had at the last shutdown: with fewer it
	// has lost some.
	Records uint64 `json:"records,omitempty"`
}

// fileEntry is a file that has a name.
type fileEntry struct {
	ID      uint64    `json:"id"`
	Names   []string  `json:"names"`
	Created time.Time `json:"created"`
	Mode    uint32    `json:"mode"` // when it was created
	Records uint64    `json:"records,omitempty"`
	Cut     string    `json:"cut,omitempty"`  // why it is older than what was acknowledged
	Lost    string    `json:"lost,omitempty"` // why nobody can read it any more
}

const journalSuffix = ".journal"

func (m *Manager) sessionDir(id string) string { return m.fs.PathJoin(m.dir, id) }

func (m *Manager) sessionPath(id string) string {
	return m.fs.PathJoin(m.sessionDir(id), "session.json")
}

func (m *Manager) journalPath(id, disk string) string {
	return m.fs.PathJoin(m.sessionDir(id), disk+journalSuffix)
}

// rewritePath is where a clone's journal is written anew.
func (m *Manager) rewritePath(id, disk string) string {
	return m.fs.PathJoin(m.sessionDir(id), "_new_"+disk+journalSuffix)
}

// fileJournalPath is where a file's journal lies. No disk's name begins like that.
func (m *Manager) fileJournalPath(id string, file uint64) string {
	return m.fs.PathJoin(m.sessionDir(id), fmt.Sprintf("_%d%s", file, journalSuffix))
}

// fileJournalOwner is journalOwner of a file.
func fileJournalOwner(id string, file uint64) string {
	return fmt.Sprintf("session %s file %d", id, file)
}

// owner is whose the journal of a disk is, as its header remembers.
func (s *session) owner(disk string) string {
	if s.file.Clone {
		return cloneOwner(s.file.ID, disk)
	}
	return "session " + s.file.ID + " disk " + disk
}

// cloneOwner is owner for a clone: should session.json be lost, the journals
// still say that a clone is not to expire.
func cloneOwner(id, disk string) string { return "clone " + id + " disk " + disk }

// save makes f the session's durable state.
func (m *Manager) save(f *sessionFile) error {
	data, err := encodeSessionFile(f)
	if err != nil {
		return err
	}
	return atomicfile.Write(m.fs, m.sessionPath(f.ID), data)
}

// sumFormat is the last key of session.json: the CRC-32C of the object without
// it.
const sumFormat = `,"crc32c":"%08x"}`

var sumLen = len(fmt.Sprintf(sumFormat, 0))

func encodeSessionFile(f *sessionFile) ([]byte, error) {
	f.Format = sessionFormat
	if f.Clone {
		f.Format = cloneFormat
	}
	data, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(data[:len(data)-1:len(data)-1], sumFormat, crc32.Checksum(data, castagnoli)), nil
}

// checkSum tells whether data is as it was written.
func checkSum(data []byte) bool {
	if len(data) < sumLen {
		return false
	}
	body := append(data[:len(data)-sumLen:len(data)-sumLen], '}')
	return string(data[len(data)-sumLen:]) == fmt.Sprintf(sumFormat, crc32.Checksum(body, castagnoli))
}

func (m *Manager) loadSessionFile(id string) (*sessionFile, error) {
	data, err := atomicfile.Read(m.fs, m.sessionPath(id), maxSessionFile)
	if err != nil {
		return nil, err
	}
	return decodeSessionFile(id, data)
}

func decodeSessionFile(id string, data []byte) (*sessionFile, error) {
	f := new(sessionFile)
	if err := json.Unmarshal(data, f); err != nil {
		return nil, fmt.Errorf("session.json of %s: %w", id, err)
	}
	switch {
	case f.Format < 1 || f.Format > cloneFormat || f.Clone != (f.Format == cloneFormat):
		return nil, fmt.Errorf("session %s has format %d, this server reads %d, and %d for clones", id, f.Format, sessionFormat, cloneFormat)
	case f.Format >= sessionFormat && !checkSum(data):
		return nil, fmt.Errorf("session.json of %s is damaged: its checksum is wrong", id)
	case f.ID != id:
		return nil, fmt.Errorf("session.json in the folder of %s is of session %q", id, f.ID)
	case f.Clone && (f.KeepsFiles || f.Ended.IsZero() && !ids.IsID(f.Base)):
		return nil, fmt.Errorf("session %s is a clone of point %q", id, f.Base)
	case len(f.Disks) == 0 && !f.KeepsFiles && f.Ended.IsZero() || len(f.Disks) > maxDisks:
		return nil, fmt.Errorf("session %s has %d disks", id, len(f.Disks))
	}
	for _, d := range f.Disks {
		if !ids.IsName(d.Disk) || d.Size <= 0 || d.Size > maxDiskSize || (d.Token == "") != d.Imported {
			return nil, fmt.Errorf("session %s: disk %q of %d bytes makes no sense", id, d.Disk, d.Size)
		}
	}
	if err := f.checkFiles(); err != nil {
		return nil, fmt.Errorf("session %s: %w", id, err)
	}
	return f, nil
}

// checkFiles tells whether the files make sense.
func (f *sessionFile) checkFiles() error {
	if len(f.Files) > 0 && !f.KeepsFiles {
		return errors.New("it has files and is not for files")
	}
	names, last := map[string]bool{}, uint64(0)
	for _, e := range f.Files {
		if e.ID <= last || e.ID >= f.NextFile || len(e.Names) == 0 || e.Mode > maxFileMode {
			return fmt.Errorf("file %d makes no sense", e.ID)
		}
		last = e.ID
		for _, name := range e.Names {
			if err := catalog.CheckFileName(name); err != nil {
				return err
			}
			if names[name] {
				return fmt.Errorf("two files have the name %q", name)
			}
			names[name] = true
		}
	}
	if len(names) > maxFiles {
		return fmt.Errorf("%d files", len(names))
	}
	return nil
}
