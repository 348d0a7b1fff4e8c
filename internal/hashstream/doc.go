// Package hashstream is the stream in which a server tells the content hashes of
// a disk's blocks to somebody who has another state of the disk, and wants only
// the blocks that differ.
//
// The hash of a block of 64 KiB, the disk's last one perhaps short, is its unkeyed
// BLAKE3-256. The stream covers the whole disk, in order. All numbers are
// little-endian:
//
//	header   0  "SRHASH\0\1"    8  u16 version = 1    10  2 zero bytes
//	        12  u32 block size = 65536                16  u64 disk size
//	        24  u32 CRC-32C of bytes 0…23
//
//	record   0  u8 type    1  3 zero bytes    4  u32 count    8  payload
//	         then u32 CRC-32C
//
//	type 1 hashes   count × 32 bytes, 1 ≤ count ≤ 1024
//	type 2 zeros    count blocks of zeros, count ≥ 1; no payload
//	type 3 end      count 0; after the disk's last block; nothing follows
//	type 4 failure  count bytes of text, 1 ≤ count ≤ 4096: the rest of the disk
//	                cannot be told; nothing follows
//
// A record's checksum is of all that the stream has before it but the other
// checksums (with those, a CRC would forget what came before them), so that a
// record that is lost, doubled or moved is noticed.
package hashstream
