package catalog

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
)

// pebbleFormat is the on-disk format of Pebble this version writes. It tells a
// torn WAL tail from damage in the middle, which older ones cannot.
const pebbleFormat = pebble.FormatWALSyncChunks

// pebble makes Pebble's options; onDamage is called from any goroutine, once
// per damaged block met.
func (o *Options) pebble(cache *pebble.Cache, onDamage func(error)) *pebble.Options {
	p := &pebble.Options{
		FS:                 o.FS,
		Cache:              cache,
		FormatMajorVersion: pebbleFormat,
		Logger:             o.Logger,
		MemTableSize:       memTableBytes,
		EventListener: &pebble.EventListener{DataCorruption: func(info pebble.DataCorruptionInfo) {
			onDamage(damagedDB(o.Dir, fmt.Errorf("%s: %w", info.Path, info.Details)))
		}},
	}
	// Chunk hashes are mostly looked up in vain: filters on every level.
	for i := range p.Levels {
		p.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		p.Levels[i].FilterType = pebble.TableFilter
	}
	return p
}

// peek reads format and watermark without changing anything.
func (o *Options) peek(cache *pebble.Cache) (w watermark, err error) {
	w = newWatermark()
	desc, err := pebble.Peek(o.Dir, o.FS)
	if err != nil && !isNotExist(err) {
		return w, damagedDB(o.Dir, err)
	}
	if desc == nil || !desc.Exists {
		return w, nil
	}
	p := o.pebble(cache, func(error) {})
	p.ReadOnly = true
	db, err := pebble.Open(o.Dir, p)
	if err != nil {
		return w, openError(o.Dir, err)
	}
	defer db.Close()
	b, err := get(db, []byte{keyFormat})
	switch {
	case errors.Is(err, pebble.ErrNotFound): // made, but never written to
		return w, nil
	case err != nil:
		return w, openError(o.Dir, err)
	}
	if err := checkFormat(b, o.Dir, o.StoreID); err != nil {
		return w, err
	}
	if b, err = get(db, []byte{keyWatermark}); err == nil {
		w, err = decodeWatermark(b)
	}
	if err != nil {
		return w, damagedDB(o.Dir, fmt.Errorf("watermark: %w", err))
	}
	return w, nil
}

// open opens the database for writing and stamps a new one.
func (o *Options) open(cache *pebble.Cache, w watermark, onDamage func(error)) (*pebble.DB, error) {
	db, err := pebble.Open(o.Dir, o.pebble(cache, onDamage))
	if err != nil {
		return nil, openError(o.Dir, err)
	}
	if _, err := get(db, []byte{keyFormat}); err == nil {
		return db, nil
	}
	b := db.NewBatch()
	defer b.Close()
	b.Set([]byte{keyFormat}, encodeFormat(o.StoreID), nil)
	b.Set([]byte{keyWatermark}, w.encode(), nil)
	if err := b.Commit(pebble.Sync); err != nil {
		db.Close()
		return nil, fmt.Errorf("write catalog %s: %w", o.Dir, err)
	}
	return db, nil
}

// openError tells damage from everything else that keeps Pebble from opening.
func openError(dir string, err error) error {
	if pebble.IsCorruptionError(err) {
		return damagedDB(dir, err)
	}
	return fmt.Errorf("open catalog %s: %w; if no other server runs on it and its disk is sound, move the directory "+
		"away and start again: the catalog is rebuilt from the metadata log", dir, err)
}

// get returns a copy of the value.
func get(r pebble.Reader, key []byte) ([]byte, error) {
	v, closer, err := r.Get(key)
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	return append([]byte(nil), v...), nil
}
