// Package qmp is a small client of QEMU's machine protocol: one JSON object
// per command, one per reply, events in between.
//
// The monitor answers commands in the order it got them, but a reply is matched
// by id, so several goroutines may share a Client. A reply can be megabytes
// long (query-named-block-nodes of a host with many disks), so the stream is
// read by a json.Decoder and never cut into lines.
//
// Locks: Client.mu guards the table of waiting commands, the list of events
// and the reason the connection ended; Client.writeMu keeps commands whole on
// the wire. Neither is held while the other is taken.
package qmp
