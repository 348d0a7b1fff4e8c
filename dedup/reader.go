package dedup

import (
	"errors"

	"github.com/strongroom-backup/strongroom/tier"
)

// ReaderOptions say what a Reader reads. Tier, Key and StoreID are needed, and
// Domain as the store has it.
type ReaderOptions struct {
	Tier    tier.Store
	Key     [32]byte
	StoreID [16]byte
	Domain  uint32

	TOCCacheBytes   int64 // default 64 MiB
	FrameCacheBytes int64 // default 64 MiB
	Events          Events
}

// Reader reads blocks from a tier nobody has open, or somebody has: it writes
// nothing, needs no block index and puts nothing in order. It is safe for
// concurrent use.
type Reader struct{ s *Store }

// OpenReader lists a tier's packs. A pack without a footer, or whose tables of
// contents are damaged, is read from end to end when it is first needed. Of
// several generations the highest good one counts.
func OpenReader(o ReaderOptions) (*Reader, error) {
	if o.Tier == nil {
		return nil, errors.New("dedup: Tier is needed")
	}
	full := Options{
		Tier: o.Tier, Key: o.Key, StoreID: o.StoreID, Domain: o.Domain,
		TOCCacheBytes: o.TOCCacheBytes, FrameCacheBytes: o.FrameCacheBytes, Events: o.Events,
	}
	full.defaults()
	codec, err := newCodec()
	if err != nil {
		return nil, err
	}
	s := newStore(full, codec)
	s.readOnly = true
	if _, err := s.countingPacks(false); err != nil {
		return nil, errors.Join(err, s.abandon())
	}
	return &Reader{s: s}, nil
}

// Read is [Store.Read].
func (r *Reader) Read(addrs []Addr, dst []byte) error { return r.s.Read(addrs, dst) }

// Hashes is [Store.Hashes].
func (r *Reader) Hashes(addrs []Addr, out []Hash) error { return r.s.Hashes(addrs, out) }

// ChunkHash is [Store.ChunkHash].
func (r *Reader) ChunkHash(length int64, hashes []Hash) Hash { return r.s.ChunkHash(length, hashes) }

// RootHash is [Store.RootHash].
func (r *Reader) RootHash(size int64, chunks []Hash) Hash { return r.s.RootHash(size, chunks) }

// Close lets go of the packs.
func (r *Reader) Close() error {
	if r.s.closed.Swap(true) {
		return nil
	}
	return r.s.abandon()
}

// loadUnrecovered reads the table of a pack that no Open has seen to.
func (s *Store) loadUnrecovered(id tier.ID, file tier.File) (*toc, int64, error) {
	if _, err := s.checkHeader(id, file); err != nil {
		return nil, 0, err
	}
	r := recovery{store: s}
	synced, noted, err := r.note(id)
	if err != nil {
		return nil, 0, err
	}
	t, err := s.readTOC(id, file)
	open := isDamage(err)
	if open {
		var sc scanned
		sc, err = s.scan(id, file, true)
		t = sc.toc
		if sc.damaged > 0 {
			t.lossy = true
			s.damage(damagedPack(id.Pack, id.Gen, sc.end, "%d frames before its end are damaged", sc.damaged))
		}
	}
	if err != nil {
		return nil, 0, err
	}
	if noted && synced != noteUnreadable {
		t = s.durableBelow(id, t, synced, open)
	}
	return t, t.memory(), nil
}
