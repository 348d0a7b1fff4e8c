// Package offline gives disks and files back from a data directory without a
// server, and without writing a byte to it: from a read-only mount, from a copy of the
// packs on another disk, when both databases are gone.
//
// What a point's disk or file is made of is read from the metadata log; the log's files
// and the packs are all it takes, with the store's key in strongroom.json. The
// code that reads the log is the server's own (package catalog), which wants to
// write: it works on an overlay whose changes stay in memory, or in a directory
// made for the purpose. What a crash tore off the log's end is left out, as a
// server would.
//
// A server that runs on the same directory is no obstacle: everything it has
// committed is there to be read. It may remove files meanwhile; what is missing
// then is reported as damage, never replaced by anything else.
//
// # What is verified
//
// Every block against its hash, always. Unless told not to, also every chunk's
// hash from those of its blocks, and the image's root hash from those of its
// chunks. Blocks that cannot be read, and chunks that are not what was backed
// up, end an export with a *DamageError; or zeros take their place, and the
// Report names them.
//
// Memory: the catalog, unless Options.Scratch puts it elsewhere, and a few MiB.
package offline
