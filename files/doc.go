// Package files makes the trees that package sftp serves: the files of backup
// sessions, which become images when they are committed, and the points, as
// files that are made when they are read.
//
// # Trees
//
//	job login     /            the files of one session
//	              /restore/VM  the points of its VM
//	standing user /            the files of his VM's session, or a folder for
//	                           each of his VMs
//	              /restore     their points, if he may read them
//
//	/restore/VM/POINT/DISK.raw                   the disk
//	                  DISK.qcow2                 only blocks that are not zero
//	                  DISK.chain/NN-POINT.qcow2  the full image and each incremental
//	                                             up to this one, backing files named
//	                  NAME                       a blob, unless a disk has the name
//	                  files/NAME                 a file as it came
//
// POINT is listed as an id, and found by RFC 3339 time, latest and latest~N too.
// Names are looked up in maps and in the catalog; none is ever part of a path on
// a disk. Folders are what the names of files imply. Those that are empty are
// remembered in memory only and are gone after a restart.
//
// A job's session is begun before its login. A user's is begun by the first file
// he makes in a VM's folder (label sftp-user), found again after a restart, and
// over when somebody commits or aborts it: then the folder is empty, and the next
// file begins another.
//
// # Writing
//
// A file is a node, one for all handles of all connections. It is written by one
// connection at a time, with as many handles as that likes; others read.
//
//	handle.WriteAt → node.write: copied into a piece, answered
//	                 piece full, old, or in the way → launched
//	                 node.store: volume.File.WriteAt, several pieces at a time
//
// A piece gathers what is written to 1 MiB of a file, in any order, as up to 32
// runs. A node gathers in several pieces at a time, so that a stream of data goes
// on gathering while headers and tables are rewritten between. The result is as
// if the writes had been applied one by one: pieces that gather are of different
// places; a piece is stored only after an earlier one of the same place was
// (piece.after); and whatever is not a write (read, stat, truncate, sync, close,
// times) waits until everything written before is stored. So it is with the
// kernel when one of these is answered, or after 100 ms in which nobody added to
// its piece, and survives a power cut when sync is answered.
//
// Pieces come from a budget that all files share. Who finds it empty has launched
// all it holds before it waits; who launches too many waits for the volume. So
// somebody's pieces always land, and the pressure ends at the client's socket.
//
// A write that fails after it was answered is told by every later write, sync and
// close of the file, and the session is not committed until the file was emptied
// or removed. Quotas are asked before a write is taken: they count, for each file
// not committed, the bytes written, at most its length.
//
// # Committing
//
// Service.Commit lets nothing change the folder any more and waits for its
// pieces. Which files are disks says manifest.json, or their names: DISK.qcow2,
// DISK.raw, DISK.img (sources.go). Whether a qcow2 is a full or an incremental
// image is decided by the mode and by the name of its backing file (mode.go). Then
// the volume adds the disks, and each gets its content (importer.go): whole blocks
// of data that lie on blocks of the file are taken over where they are, nothing is
// read; compressed, smaller and crooked clusters are read and written. At the end
// the volume commits files and images as one point. When anything fails, the disks
// are dropped, and the folder goes on as it was.
//
// # Restoring
//
// A qcow2 file below /restore is a qcow2.View: tables made from which blocks an
// image has, or has other than the image under it, which chunk records tell
// without reading data (layer.go). Views are shared and the ones used last are
// kept, named by the hashes of what they show, so that a merge or a removed point
// never leaves a wrong one behind. A view holds its point's content only while
// somebody has it open (imageSource). Images are read ahead for who reads on in
// order, whatever file shows them (package readahead).
//
// # Locks, in the order they may be taken
//
//	folder.verb      one commit at a time
//	Service.loading  a folder is made from a session
//	folder.mu        names, handles and writers; held while the volume changes a name
//	node.op          the order of what is done to one file; held while pieces are
//	                 waited for
//	node.mu          size, what is being stored, errors
//	imageSource.mu   held while an image is opened
//	Service.mu, account.mu, viewCache.mu   leaves
//
// Service.Release is called by the volume while operations of this package wait
// for the volume's locks. So it takes no lock but Service.mu: it marks the folder
// as ended, which every operation looks at, and leaves the rest to a goroutine.
package files
