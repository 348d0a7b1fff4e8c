package crashfs

import (
	"fmt"
	"path"
	"strings"
)

// Unsynced is a file or directory with something a power cut may take.
type Unsynced struct {
	Path  string
	Bytes int64 // of data, summed over writes
	Entry bool  // its name is not durable
}

func (u Unsynced) String() string {
	return fmt.Sprintf("%s (%d bytes of data, name un-synced: %v)", u.Path, u.Bytes, u.Entry)
}

// Unsynced lists what match picks and a power cut may take, a file's name and
// the names of the directories above it included.
func (fs *FS) Unsynced(match func(path string) bool) []Unsynced {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	return fs.unsynced(match)
}

// Unsynced is FS.Unsynced at the instant.
func (at *Instant) Unsynced(match func(path string) bool) []Unsynced { return at.fs.unsynced(match) }

func (fs *FS) unsynced(match func(path string) bool) (out []Unsynced) {
	var visit func(dir *inode, name string, loose bool)
	visit = func(dir *inode, name string, loose bool) {
		for _, e := range sortedNames(dir.dir.cur) {
			u := Unsynced{Path: path.Join(name, e.name), Entry: loose || dir.dir.dur[e.name] != e.node}
			if e.node.dir != nil {
				visit(e.node, u.Path, u.Entry)
			} else {
				u.Bytes = e.node.unsynced()
			}
			if (u.Bytes > 0 || u.Entry) && match(u.Path) {
				out = append(out, u)
			}
		}
	}
	visit(fs.root, "/", false)
	return out
}

// Rule is "whenever When happens, nothing that Clean picks is un-synced": what
// an index or a log may point at before it is synced itself.
type Rule struct {
	Name  string
	When  func(Op) bool
	Clean func(path string) bool
}

// Enforce checks the rule at every operation from now on and reports each
// breach through fail, which must not call the FS.
func (fs *FS) Enforce(r Rule, fail func(error)) {
	fs.Observe(func(at *Instant) {
		if !r.When(at.Op) {
			return
		}
		for _, u := range at.Unsynced(r.Clean) {
			fail(fmt.Errorf("rule %q broken at operation %d (%v): %v", r.Name, at.Op.Seq, at.Op, u))
		}
	})
}

// CheckFailedSyncs reports every file that is synced again, written to again or
// renamed into use after a sync of it failed. match picks paths; nil picks all.
func CheckFailedSyncs(ops []Op, match func(path string) bool) error {
	failed := map[uint64]Op{}
	var broken []string
	for _, op := range ops {
		if match != nil && !match(op.Path) {
			continue
		}
		first, bad := failed[op.Inode]
		switch {
		case bad && (op.Kind == Sync || op.Kind == SyncDir || op.Kind == Write || op.Kind == Rename):
			broken = append(broken, fmt.Sprintf("operation %d (%v) after the failed sync %d (%v)", op.Seq, op, first.Seq, first))
		case !bad && op.Err != nil && (op.Kind == Sync || op.Kind == SyncDir):
			failed[op.Inode] = op
		}
	}
	if broken == nil {
		return nil
	}
	return fmt.Errorf("a file was used on after its sync failed:\n%s", strings.Join(broken, "\n"))
}

// Under matches a directory and everything in it.
func Under(dir string) func(string) bool {
	dir = clean(dir)
	return func(p string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }
}
