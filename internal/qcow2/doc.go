// Package qcow2 writes a disk image in QEMU's qcow2 format, version 3, in one
// pass: the places of all clusters follow from the disk's data extents, so that
// data can be written in any order and by many goroutines at once.
//
//	cluster 0        header (104 bytes, big endian) and an empty extension
//	      1 …        refcount table: 8-byte offsets of refcount blocks
//	        …        refcount blocks: 32768 two-byte counts each, 1 for every cluster of the file
//	        …        L1 table: 8-byte offsets of L2 tables, 0 where a 512 MiB of disk holds no data
//	        …        L2 tables: 8192 8-byte offsets of data clusters, 0 where there is none
//	        …        data clusters, in the order of the disk
//
// Clusters are 64 KiB. Those without data are not in the file and read as zeros.
// Memory use is 24 bytes per data extent.
//
// An Image is immutable after Plan.
package qcow2
