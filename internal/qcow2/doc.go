// Package qcow2 reads and writes disk images in QEMU's qcow2 format: a Reader
// reads files of anybody's, an Image is written to a file in one pass, a View is a
// file that exists only as it is read.
//
// # The format
//
// A file is divided into clusters, as is the disk it holds. All numbers are big
// endian. The facts are those of QEMU's docs/interop/qcow2.txt; what files are
// refused, and what is read beyond a file's end, follows QEMU 7.2.
//
//	L1 table ──▶ L2 tables, a cluster each ──▶ clusters with the disk's content
//
// Header, in the first cluster; version 2 ends after 72 bytes, version 3 has 104
// or more. Extensions follow, then the backing file's name:
//
//	 0 magic QFI\xfb  4 version  8 backing file name: offset[8]  16 length[4]
//	20 cluster bits[4]  24 disk size[8]  32 encryption[4]
//	36 L1 entries[4]  40 L1 offset[8]  48 refcount table offset[8]  56 its clusters[4]
//	60 snapshots[4]  64 their offset[8]
//	72 incompatible features[8]: 1 dirty, 2 corrupt, 4 data file, 8 compression, 16 extended L2
//	80 compatible features[8]  88 autoclear features[8]
//	96 refcount order[4]  100 header length[4]  104 compression[1]: 0 zlib, 1 zstd
//	extension: type[4] length[4] data, padded to 8; type 0 ends them, 0xe2792aca is the backing file's format
//
// Entries are words of 64 bits, those of extended L2 tables two:
//
//	L1           63 copied │ 62…56 0 │ 55…9 L2 table │ 8…0 0
//	L2           63 copied │ 62 0 │ 61…56 0 │ 55…9 cluster │ 8…1 0 │ 0 reads as zeros
//	compressed   63 0 │ 62 1 │ 61…x further sectors of 512 bytes │ x-1…0 first byte    x = 70 - cluster bits
//	extended     a second word: 63…32 subclusters that read as zeros │ 31…0 that are data
//
// A Reader takes versions 2 and 3, any cluster size, zlib and zstd, zero clusters,
// subclusters; dirty images, because it does not believe reference counts;
// internal snapshots, of which it reads the active state only. It refuses, with
// ErrUnsupported, encrypted images, external data files, images marked corrupt,
// unknown features and disks above 1 PiB; with a *FormatError everything malformed:
// see Check. What begins beyond the file's end is refused, though QEMU would read
// zeros: the file is most likely cut off. The limits and their reasons are in
// limits.go; the memory of a Reader is the first cluster while it is opened, 1 MiB
// of tables, four unpacked clusters, and what Check says.
//
// # What is written
//
// Image and View have the same layout, by which the places of all clusters follow
// from the set of data clusters; so data can be written in any order, or never:
//
//	cluster 0        header (104 bytes), for a layer the extension with the backing
//	                 file's format (16), the end of the extensions (8), the backing file's name
//	      1 …        refcount table: 8-byte offsets of refcount blocks
//	        …        refcount blocks: 32768 two-byte counts each, 1 for every cluster of the file
//	        …        L1 table: 8-byte offsets of L2 tables, 0 where a 512 MiB of disk is not described
//	        …        L2 tables: 8192 entries each: a data cluster's offset, 1 for zeros, 0 for nothing
//	        …        data clusters, in the order of the disk
//
// Clusters are 64 KiB. In a flat file those without data read as zeros. In a
// layer, a file with a backing file, they are of three sorts: data, zeros, and
// what the backing file says; a cluster described in part is data as a whole.
// Memory is as of clusters: 8 MiB for a dense disk of 16 TiB, 40 MiB for one with
// holes in every 64 MiB, 72 MiB with zeros there too; nothing where 64 MiB hold
// nothing.
//
// Images and Views are immutable.
package qcow2
