package dedup

import "github.com/strongroom-backup/strongroom/tier"

// ReaderOptions say what a Reader reads.
type ReaderOptions struct {
	Tier    tier.Store
	Key     [32]byte
	StoreID [16]byte
	Domain  uint32

	TOCCacheBytes   int64 // default 64 MiB
	FrameCacheBytes int64 // default 64 MiB
	Events          Events
}

// Reader reads blocks and changes nothing.
type Reader struct{ s *Store }

// OpenReader opens the packs of a tier for reading only.
func OpenReader(o ReaderOptions) (*Reader, error) { return nil, errUnfinished }

// Read is [Store.Read].
func (r *Reader) Read(addrs []Addr, dst []byte) error { return r.s.Read(addrs, dst) }

// Hashes is [Store.Hashes].
func (r *Reader) Hashes(addrs []Addr, out []Hash) error { return r.s.Hashes(addrs, out) }

// Close lets go of the packs.
func (r *Reader) Close() error { return r.s.Close() }
