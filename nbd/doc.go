// Package nbd serves block devices over the NBD protocol: fixed newstyle
// negotiation, TLS, structured replies, metadata contexts and every command in
// common use, to many clients at once. It knows nothing of backups; what it
// serves comes from the Exports and Device interfaces. docs/NBD.md says what
// is supported, option by option. base:allocation comes from every Device;
// further contexts from those that are a ContextDevice, of Exports that are
// ContextExports.
//
// # A connection's life
//
//	accept → negotiation ──GO/EXPORT_NAME──→ admission → transmission → end
//	             │  ↺ one option after the other    │          │
//	             └──ABORT, error, deadline──────────┴──────────┴──→ closed
//
// Negotiation (negotiate.go, options.go, starttls in negotiate.go):
//
//	S  "NBDMAGIC" | "IHAVEOPT" | flags (2)
//	C  flags (4)
//	C  "IHAVEOPT" | option (4) | length (4) | data              repeated
//	S  0x0003e889045565a9 | option (4) | type (4) | length (4) | data
//
// Admission (export.go, fence.go) makes a new connection to a writable export
// wait until everything that older connections had sent has landed, see below.
//
// Transmission (transmit.go, request.go, execute.go, reply.go, writer.go):
//
//	C  0x25609513 | flags (2) | command (2) | cookie (8) | offset (8) | length (4) | payload
//	S  0x67446698 | error (4) | cookie (8) | data                     simple
//	S  0x668e33ef | flags (2) | type (2) | cookie (8) | length (4) | payload    a chunk
//
// # Goroutines
//
// A connection has one goroutine. It negotiates, then reads requests: header
// out of a buffer, header.validate, payload into a buffer of the arena. Every
// valid request runs on a goroutine of its own and makes its reply. Whoever has
// a reply when nobody writes becomes the writer, and sends what others queue
// meanwhile in one gathered write. There is no other goroutine; timers only
// trim idle memory and watch for clients that hoard it.
//
// A request slot, its reply and its function values are made once and used
// again, so a request allocates nothing. Back-pressure is the reader not
// reading: it waits for a slot (Limits.InFlight) and for memory
// (Limits.MemoryBytes) before it goes on.
//
// # The fence
//
// A client that loses its connection sends unanswered writes again over a new
// one and may then write newer data to the same place. A stale write of the old
// connection must not land after that. So GO puts a mark into the stream of
// each older connection of the export: the reader reads what had arrived, waits
// until all of it is carried out, and tells. Healthy siblings lose a moment. A
// connection that sits in the middle of a request, or whose client leaves its
// replies unread, is closed after fenceBound. Over a network bytes may be under
// way that no one can see, so there an older connection that has written is
// closed in any case, before the first write of the new one.
//
// # Locks, in the order in which they are taken
//
//	export.admission   held while a connection is let in (shared for read-only
//	                   exports) and by CloseExport
//	Server.mu          the sets of listeners, connections and exports
//	flushGroup.mu, writer.mu, arena.mu, tlsSocket.mu, conn.reasonMu
//	                   leaves: nothing is taken under them
//
// A Device and its Contexts are called without any of them but export.admission
// (Exports.Open, ContextDevice.OpenContext, and Close of both when the export
// changed or a context was gone).
package nbd
