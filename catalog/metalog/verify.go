package metalog

import "fmt"

// Verify reads a whole log, of which the records up to held were applied, and
// changes nothing. It returns the first damage. Somebody may be appending
// meanwhile: records after held are not looked at.
func Verify(o Options, held uint64) error {
	l := &Log{o: o, applied: held}
	files, _, err := l.list()
	if err != nil {
		return err
	}
	next := uint64(1)
	for i, f := range files {
		if f.first > held {
			break
		}
		if f.first != next {
			return l.missing(next, f.first)
		}
		l.files = files
		stop := min(l.stop(i), held+1)
		end, err := l.scan(i, stop, discard, func(span) error { return nil })
		switch {
		case err != nil:
			return err
		case end.next < stop && end.damage != nil:
			return end.damage
		case end.next > stop:
			return fmt.Errorf("metadata log %s: %w: a transaction goes on past record %d, where the next file begins", f.path, ErrCorrupt, stop)
		}
		next = end.next
	}
	if next <= held {
		return l.missing(next, held+1)
	}
	return nil
}
