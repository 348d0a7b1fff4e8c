// Package vma reads and writes VMA archives, version 1, the format in which
// Proxmox VE keeps a VM's disks and configuration: one stream, written and read
// from its beginning to its end, in which the parts of the disks come in any
// order.
//
// # The format
//
// The facts are those of vma_spec.txt and vma-reader.c in Proxmox' QEMU; where
// the two differ, of the latter. Numbers are big endian but for a blob's length.
// A header is followed by extents to the end of the stream.
//
//	header, header_size bytes: a multiple of 512, more than 12288, at most 524288
//
//	     0 magic VMA\0       4 version 1[4]
//	     8 uuid[16]         24 created[8], seconds since 1970
//	    32 md5[16] of the header, computed with these bytes 0
//	    48 blob offset[4], 12288      52 blob size[4]      56 header_size[4]
//	    60 0
//	  2044 names of 256 configuration files[4 each], as places of blobs; 0: none
//	  3068 their contents[4 each], as places of blobs
//	  4096 256 devices, of which 1…254 are used:
//	       name[4], as a place of a blob; 0[4]; size[8] in bytes; 0[16]
//	 12288 blobs: length[2, little endian], bytes. Places count from the blob
//	       offset; the first blob is at 1. Names end with a NUL that is counted.
//	       0 to header_size
//
//	extent, 512 bytes and 4096 × blocks
//
//	     0 magic VMAE        4 0[2]        6 blocks[2], how many follow
//	     8 uuid[16] of the header
//	    24 md5[16] of these 512 bytes, computed with these bytes 0
//	    40 59 clusters[8 each]: 63…48 mask │ 47…40 0 │ 39…32 device │ 31…0 number; device 0: none
//	   512 for each cluster, for each bit of its mask from 0 up: a block of 4096 bytes
//
// A cluster is 64 KiB of a device, a block 4 KiB; what the mask leaves out is
// zeros. Every cluster of every device comes exactly once, even if it is all
// zeros. A device that ends within a block has it padded with zeros; the blocks
// beyond its end are left out. There is no checksum of the data, and no index.
//
// A device named vmstate is the memory of a running VM: its clusters come in
// order, and their number has nothing to do with its size. A Reader passes them
// on; a Writer takes no device of that name.
//
// # Memory
//
// Reader and Writer have an extent (3.7 MiB), the header, and a bit for each
// cluster that has come while others near it have not: at most 32 MiB for
// 16 TiB, next to nothing when clusters come in order. Write has readsBytes
// more. None allocates what an archive only claims. The limits are in limits.go.
//
// Readers and Writers are for one goroutine.
package vma
