// Package metalog is the metadata log: an append-only sequence of records,
// grouped in transactions, from which the catalog database can be rebuilt.
//
// The log is a directory of files named <16 hex digits of the first sequence
// number>.mlog. A file is a header and then records, back to back; integers
// are little-endian. Records are numbered 1, 2, 3 … through all files.
//
//	file header, 64 bytes
//	 0  8  magic "SRMETLOG"
//	 8  2  format version, 1
//	10  2  kind, 1 = metadata log
//	12  4  dedup domain
//	16 16  store id
//	32  8  first sequence number, as in the name
//	40  8  salt: random, one per file
//	48 12  zero
//	60  4  CRC32C of bytes 0–59
//
//	record, 36 bytes and the payload
//	 0  4  magic "SRMR"
//	 4  4  payload length
//	 8  8  sequence number
//	16  8  sequence number of the transaction's first record
//	24  2  type
//	26  2  flags, 0
//	28  4  CRC32C of the salt (8 bytes, as in the file header) and bytes 0–27
//	32  n  payload
//	 …  4  CRC32C of the salt, bytes 0–27 and the payload
//
// The last record of a transaction is its commit record, type 1: u32 count of
// the records before it and SHA-256 over bytes 4–27 and the payload of each of
// them in turn. Records of a transaction without a commit record do not exist.
//
// The salt is what keeps a client from planting bytes in a payload that look
// like a record of this file.
//
// # Writing
//
// A file is created, its header synced and the directory synced before the
// first record is written, so a header that is not whole means no record was
// ever acknowledged. A transaction lies in one file, is written from one place
// to the next and made durable by one fdatasync, and only then is the next one
// begun. Hence at most the last transaction of the log can be un-synced.
//
// A file is given up after a failed write: the next transaction goes into a
// new file. After a failed sync the log takes no more transactions until it is
// opened anew.
//
// # Reading
//
// A file ends where the next file begins: bytes of records from the next
// file's first sequence number on are void. So what a crash tore is left
// behind by starting a new file, and never appended to.
//
// At Open, bytes that are not a valid record are a torn tail if they are in
// the last file, nothing later than the transaction they belong to follows,
// and the caller has not yet applied that transaction. Otherwise they are
// damage and Open fails with ErrCorrupt, naming the file and the offset.
//
// A last transaction the caller had not applied may be in the page cache only,
// of a disk whose sync failed even. Open therefore writes it again into a file
// of its own and syncs that before anybody relies on it.
//
// A Log is not safe for concurrent use, but for Size and Err.
package metalog
