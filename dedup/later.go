package dedup

import (
	"encoding/binary"
	"maps"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// laterSet is which sealed packs have frames whose compression was not tried,
// and how many bytes those take. The block index keeps it over restarts, as a
// hint: the packs' tables tell it too.
type laterSet struct {
	mu    sync.Mutex
	packs map[uint64]int64
	total int64
}

// set replaces what is known of a pack.
func (l *laterSet) set(pack uint64, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if bytes == l.packs[pack] {
		return
	}
	l.total += bytes - l.packs[pack]
	if bytes == 0 {
		delete(l.packs, pack)
		return
	}
	if l.packs == nil {
		l.packs = make(map[uint64]int64)
	}
	l.packs[pack] = bytes
}

func (l *laterSet) get(pack uint64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.packs[pack]
}

func (l *laterSet) sum() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

// list is the packs in order.
func (l *laterSet) list() []uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.packs))
}

// loadLater reads what the last run knew of packs that are there.
func (s *Store) loadLater() error {
	return s.index.each('l', func(pack uint64, v []byte) error {
		n, err := parseLater(v)
		if _, ok := s.packs.gen(pack); err == nil && ok {
			s.later.set(pack, n)
		}
		return err
	})
}

// writeLater adds to a batch how many bytes of a pack wait to be compressed.
func writeLater(b *pebble.Batch, pack uint64, bytes int64) error {
	if bytes == 0 {
		return b.Delete(packKey('l', pack), nil)
	}
	return b.Set(packKey('l', pack), appendLater(nil, bytes), nil)
}

// appendLater and parseLater code how many bytes wait, which is never 0.
func appendLater(b []byte, bytes int64) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(bytes))
}

func parseLater(v []byte) (int64, error) {
	if len(v) != 8 {
		return 0, errIndexValue
	}
	n := binary.BigEndian.Uint64(v)
	if n == 0 || n > maxPackFile {
		return 0, errIndexValue
	}
	return int64(n), nil
}
