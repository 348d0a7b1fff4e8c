// Package guest runs a real virtual machine: a small Debian in
// qemu-system-x86_64 without hardware virtualisation, driven over its serial
// console and its QMP monitor. Its tests are the ones that no model can stand
// in for: a machine is backed up while it works, starts again from a clone over
// NBD, survives the server's death and moves back to a local disk.
//
// disk.sh says how the disk is made. It is made once and kept in the user's
// cache directory (STRONGROOM_CACHE names another) under a hash of disk.sh, so
// a changed recipe makes a new disk. A test never writes to the kept disk but
// to a qcow2 overlay of it.
//
// A Console waits for what the guest prints, never for a time; the context of
// the test is its only limit. What was printed is kept, for the log of a test
// that fails. A Console is used by one goroutine at a time; its lock keeps the
// reader of the serial line from whoever waits for it.
package guest
