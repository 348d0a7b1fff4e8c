// Package restore writes disks of NBD exports in the forms a hypervisor can use,
// and checks later what it has written: whole, or not at all.
//
//	Disk     raw (sparse) or qcow2 into a file, raw onto a block device, either to a stream
//	Chain    the points of a disk as qcow2 files, each the backing file of the next
//	Archive  several disks and blobs in one VMA archive
//	Manifest what was written, with hashes; VerifyDir compares files with it
//
// The export's holes are asked for first and widened to blocks of 64 KiB, those
// of the store and of the qcow2 files written. Only data is read, many requests at
// once, hashed by those who read it, and written to its place, past the page cache
// where the file system lets it. A file is written beside the output, synced, and
// renamed when every byte is there. What the server cannot verify it does not
// send: such an error is a *DamageError here.
//
// A block device cannot be renamed. Its first MiB is zeroed before anything else
// is written, and written last, when all else is synced: a restore that ends early
// leaves nothing that looks like a disk.
//
// A chain is read chunk by chunk (64 MiB) in all its layers together, so that the
// content of every layer's disk can be hashed while each byte is read once: what a
// layer has for itself is laid over the blocks below. What changed from layer to
// layer is the server's answer: the NBD context qemu:dirty-bitmap:since-POINT, of
// which zeros become zero clusters. The SFTP restore tree shows the same files,
// byte for byte.
//
// The content hash and the manifest are described in docs/FORMAT.md.
//
// # Memory
//
// requestBytes per request in flight; 32 bytes for each chunk of the disk, and 32
// KiB for each chunk that has come in part; for qcow2 what a qcow2.View takes, for
// each layer. A manifest is bounded by manifestMax.
//
// # Locks
//
// ContentHasher.mu and chainHasher.mu guard their tables; nothing is hashed but
// lists of hashes, and nothing waited for, while one is held.
package restore
