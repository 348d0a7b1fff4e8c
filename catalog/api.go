package catalog

// API agreed with the users of this package. Bodies live in files of their own.
//
//	func Open(o Options) (*Catalog, error)   // Options{FS vfs.FS; Dir string (DIR/catalog); MetaDir string (DIR/tier0/meta); Store *dedup.Store (only for hashes); Clock; Logger pebble.Logger; CacheBytes}
//	func (c *Catalog) Close() error
//	func (c *Catalog) Commit(p NewPoint) (Point, error)     // metadata log synced = commit point, then Pebble batch synced
//	func (c *Catalog) Remove(id string) error               // tombstone in the metadata log, synced, then Pebble, synced
//	func (c *Catalog) VMs() ([]VM, error)
//	func (c *Catalog) Points(vm string) ([]Point, error)    // all VMs when vm == "", oldest first
//	func (c *Catalog) Point(id string) (Point, error)
//	func (c *Catalog) Latest(vm, disk string) (Point, bool, error) // newest point of vm that has the disk
//	func (c *Catalog) Resolve(ref Ref) (Point, error)       // Ref parsed by ParseRef("VM[/DISK][@POINT]"), also "VM:DISK@POINT" and a bare point id
//	func (c *Catalog) Blob(pointID, name string) ([]byte, error)
//	func (c *Catalog) ChunkList(pointID, disk string) ([]ChunkNo, error)
//	func (c *Catalog) Chunk(n ChunkNo) (*Chunk, error)      // cached (bounded bytes); the result is shared, do not change it
//	func (c *Catalog) Stats() Stats
//
//	type NewPoint struct { ID, VM string; Start time.Time; Labels map[string]string; Images []NewImage; Blobs []Blob }
//	type NewImage struct { Image; Chunks []ChunkRef }       // Image.Root is computed by Commit
//	type ChunkRef struct { No ChunkNo; New *Chunk }         // New != nil: record it unless a chunk of that hash exists; else No (0 = zeros)
//
//	var ErrNotFound (what was looked for in the message), ErrExists, ErrCorrupt
