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

// found is what a database's directory holds.
type found struct {
	mark     watermark // to go on from
	outdated bool      // of an older format: it must be made anew
	held     uint64    // then, the last log record it holds
}

// peek reads format and watermark without changing anything.
func (o *Options) peek(cache *pebble.Cache) (f found, err error) {
	f.mark = newWatermark()
	desc, err := pebble.Peek(o.Dir, o.FS)
	if err != nil && !isNotExist(err) {
		return f, damagedDB(o.Dir, err)
	}
	if desc == nil || !desc.Exists {
		return f, nil
	}
	p := o.pebble(cache, func(error) {})
	p.ReadOnly = true
	db, err := pebble.Open(o.Dir, p)
	if err != nil {
		return f, openError(o.Dir, err)
	}
	defer db.Close()
	b, err := get(db, []byte{keyFormat})
	switch {
	case errors.Is(err, pebble.ErrNotFound): // made, but never written to
		return f, nil
	case err != nil:
		return f, openError(o.Dir, err)
	}
	version, err := checkFormat(b, o.Dir, o.StoreID)
	if err != nil {
		return f, err
	}
	if b, err = get(db, []byte{keyWatermark}); err == nil {
		err = f.decode(version, b)
	}
	if err != nil {
		return f, damagedDB(o.Dir, fmt.Errorf("watermark: %w", err))
	}
	return f, nil
}

func (f *found) decode(version uint64, watermark []byte) (err error) {
	if version == formatVersion {
		f.mark, err = decodeWatermark(watermark)
		return err
	}
	f.outdated = true
	f.held, err = decodeOldWatermark(watermark)
	return err
}

// open opens the database for writing, and stamps one that is new or to be made
// anew.
func (o *Options) open(cache *pebble.Cache, f found, onDamage func(error)) (*pebble.DB, error) {
	db, err := pebble.Open(o.Dir, o.pebble(cache, onDamage))
	if err != nil {
		return nil, openError(o.Dir, err)
	}
	if _, err := get(db, []byte{keyFormat}); err == nil && !f.outdated {
		return db, nil
	}
	b := db.NewBatch()
	defer b.Close()
	b.DeleteRange([]byte{0}, []byte{0xff}, nil) // of an older format; in the same batch
	b.Set([]byte{keyFormat}, encodeFormat(o.StoreID), nil)
	b.Set([]byte{keyWatermark}, f.mark.encode(), nil)
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
