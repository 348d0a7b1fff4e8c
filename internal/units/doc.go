// Package units reads and prints sizes and durations the one way every flag,
// setting and table of Strongroom does.
//
// A size is a whole number of bytes, or a number with a unit: K, M, G, T, P and
// KiB, MiB, GiB, TiB, PiB are powers of 1024, as in qemu-img; KB, MB, GB, TB and
// PB are refused, because half of the world means 1000 by them. A fraction is
// allowed when it comes to whole bytes (1.5GiB).
//
// A duration is Go's syntax (90s, 1h30m) with d for days (7d, 1d12h) before it.
package units
