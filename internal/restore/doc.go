// Package restore copies an NBD export into a file: whole, or not at all.
//
// The export's holes are asked for first; only data is read, many requests at
// once, and written to its place in a new file beside the output, which is
// synced and renamed when every byte is there. What the server cannot verify it
// does not send: such an error is a *DamageError here, and nothing is left.
//
// Memory: requestBytes per request in flight, and for qcow2 16 bytes per extent
// and 160 bytes per 64 MiB that holds data.
package restore
