// Package imports reads disk images and archives of whole VMs and writes what is
// in them to the disks of a backup: VMA archives (package vma), qcow2 images
// (package qcow2) and raw disks. It knows the disks to write to as Devices only;
// opening, committing and aborting the backup is its caller's.
//
//	Open ──▶ Source: what disks and files there are
//	           │ Copy
//	           ├── archive: the stream's order, gathered to 1 MiB
//	           ├── stream:  a raw disk from a pipe
//	           └── image:   layers ──▶ pieces ──▶ units of 1 MiB, read by many
//	                 │ output: up to 32 MiB on the way
//	                 ▼ pool: a connection for each disk being written
//	               Devices
//
// All of a disk is written, as data or as zeros, so that its content is the
// source's whatever the disk had before. Nothing is kept in files: an archive
// from a pipe is written as it comes.
//
// A qcow2 image and the files it stands on are layers. Where the uppermost says
// nothing the next one counts; beyond a layer's end, and below the last, are
// zeros. Each layer's tables are walked once, all side by side.
//
// # Locks
//
// pool.mu guards the table of connections. It is not held while anything is
// opened, closed or written.
package imports
