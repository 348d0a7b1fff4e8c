package crashfs

import (
	"fmt"
	"strings"
	"sync"
)

// Kind names an operation in traces.
type Kind string

// The mutating operations, which are counted, and after them the two that
// change nothing and are shown to faults only.
const (
	Create  Kind = "create"
	Mkdir   Kind = "mkdir"
	Link    Kind = "link"
	Rename  Kind = "rename"
	Remove  Kind = "remove"
	Write   Kind = "write"
	Sync    Kind = "sync"    // of a file, Sync or SyncData
	SyncDir Kind = "syncdir" // of a directory
	Open    Kind = "open"
	Read    Kind = "read"
)

// Op is one operation.
type Op struct {
	Seq      uint64 // counts mutating operations from 1; 0 for Open and Read
	Kind     Kind
	Path     string // as given or, for handles, as opened; cleaned, from the root
	To       string // Link and Rename
	Inode    uint64 // the file, whatever its name; 0 when it does not exist yet
	Off, Len int64  // Write and Read
	Err      error  // what the caller got
}

// String renders the operation as one line of a trace.
func (o Op) String() string {
	s := fmt.Sprintf("%-7s %s", o.Kind, o.Path)
	switch o.Kind {
	case Link, Rename:
		s += " -> " + o.To
	case Write, Read:
		s += fmt.Sprintf(" %d+%d", o.Off, o.Len)
	}
	if o.Err != nil {
		s += ": " + o.Err.Error()
	}
	return s
}

// Instant is the file system at one moment, to an observer just after an
// operation. It is valid only inside the function that got it.
type Instant struct {
	Op Op
	fs *FS
}

// Observe calls f after every mutating operation, failed ones included. f runs
// under the file system's lock and must not call the FS.
func (fs *FS) Observe(f func(*Instant)) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.observers = append(fs.observers, f)
}

// At calls f now, with an Instant that has no Op. f runs under the file
// system's lock, so that a test can note beside a clone what it knows then.
func (fs *FS) At(f func(*Instant)) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f(&Instant{fs: fs})
}

// Ops is the number of mutating operations so far.
func (fs *FS) Ops() uint64 {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	return fs.seq
}

// begin counts the operation and asks the faults for a verdict.
func (fs *FS) begin(op *Op) verdict {
	fs.seq++
	op.Seq = fs.seq
	return fs.judge(op)
}

// end tells the observers and hands the error through.
func (fs *FS) end(op *Op, err error) error {
	op.Err = err
	for _, f := range fs.observers {
		f(&Instant{Op: *op, fs: fs})
	}
	return err
}

// Trace records operations.
type Trace struct {
	mu  sync.Mutex
	ops []Op
}

// Record starts a trace of everything fs does from now on.
func Record(fs *FS) *Trace {
	t := &Trace{}
	fs.Observe(func(at *Instant) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.ops = append(t.ops, at.Op)
	})
	return t
}

// Ops is a copy of what was recorded so far.
func (t *Trace) Ops() []Op {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]Op(nil), t.ops...)
}

// Golden renders the order of operations as text that is the same in every
// run: label turns a path into what the text shows ("" leaves the operation
// out), and writes in a row to one file become one line without sizes.
func (t *Trace) Golden(label func(path string) string) string {
	var b strings.Builder
	last := ""
	for _, op := range t.Ops() {
		line := goldenLine(op, label)
		if line == "" || line == last && op.Kind == Write {
			continue
		}
		last = line
		b.WriteString(line + "\n")
	}
	return b.String()
}

func goldenLine(op Op, label func(string) string) string {
	from := label(op.Path)
	if from == "" {
		return ""
	}
	line := fmt.Sprintf("%-7s %s", op.Kind, from)
	if op.To != "" {
		line += " -> " + label(op.To)
	}
	if op.Err != nil {
		line += ": error"
	}
	return line
}
