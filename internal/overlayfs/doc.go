// Package overlayfs is a file system of two layers: what is below is only ever
// read, and every change goes to the layer above.
//
// It lets code that wants to write, such as a database that is opened, work on
// a directory that must stay as it is: a read-only mount, the data directory of
// a running server, evidence. Nothing that changes anything is ever called on
// the layer below, whatever is called here.
//
// A name is looked for above first. A name that was removed, or moved away, or
// whose directory was, is hidden below for good. A file of the layer below that
// is opened for writing, moved or linked is copied up whole first. Syncing what
// lies below does nothing: nothing of it can have changed.
//
// Directories of the layer below cannot be renamed.
package overlayfs
