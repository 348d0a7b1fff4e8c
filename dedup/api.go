package dedup

// API agreed with the users of this package. Bodies live in files of their own.
//
//	func Open(o Options) (*Store, error)
//	func (s *Store) Close() error                  // syncs nothing but the index; writers must be closed first
//	func (s *Store) NewWriter() *Writer            // one per disk session or clone
//	func (s *Store) Read(addrs []Addr, dst []byte) error
//	func (s *Store) Hashes(addrs []Addr, out []Hash) error
//	func (s *Store) Have(addrs []Addr) error       // nil when every slot is readable (frame present); used by journal replay
//	func (s *Store) Stats() Stats
//	func (s *Store) BlockHash(block []byte) Hash   // len(block) == BlockSize
//	func (s *Store) ChunkHash(length int64, hashes []Hash) Hash
//	func (s *Store) RootHash(size int64, chunks []Hash) Hash
//
//	// Put stores data (a multiple of BlockSize long), one address per block into out. hints[i], when not 0,
//	// is the address of what a related image has at the same place: tried first. On return every address's
//	// data is with the kernel (process-crash safe). data is not kept. Safe for concurrent use.
//	func (w *Writer) Put(data []byte, hints, out []Addr) (PutResult, error)
//	// Depend says that w's content refers to these addresses though Put did not return them (journal replay).
//	func (w *Writer) Depend(addrs ...Addr)
//	// Sync makes every block Put returned (or Depend named) so far power-cut safe: fdatasync of each pack with un-synced slots.
//	func (w *Writer) Sync() error
//	func (w *Writer) Close()                       // gives lanes and pins back; does not sync
