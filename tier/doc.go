// Package tier is where packs live.
//
// A [Store] keeps files named by pack number and generation. Package dedup
// decides what is in them; a tier only promises that a name Create returned
// survives a power cut, that bytes are durable once [File.Sync] returned nil,
// and that an empty mount is never taken for lost data.
//
// [Dir] is a tier in a directory of any vfs.FS:
//
//	DIR/TIER                                  marker: format version and store id
//	DIR/packs/<number>>12>/<number>.g<gen>.pack   the pack, 7 and 10 hex digits, generation in decimal
//	DIR/packs/<number>>12>/<number>.g<gen>.note   a few bytes about a pack, rarely there
//
// The marker is what tells a tier whose disk is not mounted from one that lost
// its packs: Open refuses a directory without it, and only Create writes it.
//
// # Locks
//
// Dir has one lock, over the set of directories known to exist durably. It is
// held while a directory is made and never while a pack is read or written.
package tier
