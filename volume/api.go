// Package volume is a mutable disk over immutable chunks.
package volume

// API agreed with the users of this package. Bodies live in files of their own.
//
//	func Open(o Options) (*Manager, error)       // recovers open sessions; Options{FS vfs.FS; Dir string (DIR/sessions); Blocks *dedup.Store; Catalog *catalog.Catalog; Clock; BootID string; Events Events}
//	func (m *Manager) Close() error              // flushes every session, marks them clean
//	func (m *Manager) Start(r StartRequest) (Status, error)
//	func (m *Manager) Commit(session string) (Receipt, error)   // ErrBusy while a client is writing? no: fences connections first via Events
//	func (m *Manager) Abort(session string) error
//	func (m *Manager) Status(session string) (Status, error)
//	func (m *Manager) Sessions() []Status
//	func (m *Manager) OpenExport(token string) (*Disk, error)   // writable disk of a session
//	func (m *Manager) OpenImage(pointID, disk string) (*Image, error) // read only
//	func (m *Manager) Expire(now time.Time) []string            // aborts sessions past their TTL, returns their ids
//	func (m *Manager) Stats() Stats
//
//	both *Disk and *Image:  Size() int64; ReadAt(p []byte, off int64) (int, error);
//	     Extents(off, n int64, yield func(length int64, zero bool) bool) error   // merged, in order, covers [off, off+n) unless stopped
//	     Close() error
//	*Disk also: WriteAt(p []byte, off int64) (int, error); Zero(off, n int64) error; Flush() error
//
//	type StartRequest struct {
//		VM string; Disks []DiskSpec{Name string; Size int64}; Mode string ("full"|"incremental"|"auto", ""=auto);
//		Parent string (REF or point id the orchestrator believes in, ""=any); Checkpoint string; ParentCheckpoint string;
//		Labels map[string]string; Blobs []catalog.Blob; TTL time.Duration }
//	type Status struct { Session, VM, State ("open"|"committing"|"committed"|"aborted"|"expired"|"dead"), Reason string; Started, Expires time.Time;
//		Labels; Disks []DiskStatus{Disk string; Mode; Parent string; Size int64; Token string; WrittenBytes, ZeroedBytes, NewBytes, StoredBytes int64} ; Point string }
//	type Receipt struct { Point, VM string; Time time.Time; Images []catalog.Image with root in hex }
//	errors: ErrNoSession, ErrDead, ErrClosed (committed/aborted/expired), ErrMismatch (parent or checkpoint; message says what the server has), ErrBadRequest
