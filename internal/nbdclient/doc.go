// Package nbdclient reads and writes an NBD export as restores need it: many
// requests in flight on one connection, the export's holes, and what has changed
// between two points.
//
// It speaks only what it needs: fixed newstyle without zeroes, TLS when asked
// for, STRUCTURED_REPLY, SET_META_CONTEXT for base:allocation and more, GO; then
// READ, WRITE, WRITE_ZEROES, FLUSH, BLOCK_STATUS and DISC. A server without
// structured replies or base:allocation is refused; one without WRITE_ZEROES is
// written zeros, one without FLUSH is trusted.
//
//	client                                server
//	                                      NBDMAGIC IHAVEOPT flags:16
//	flags:32
//	IHAVEOPT option:32 length:32 data
//	                                      magic:64 option:32 type:32 length:32 data
//	0x25609513 flags:16 type:16 cookie:64 offset:64 length:32 payload
//	                                      0x67446698 error:32 cookie:64
//	                                      0x668e33ef flags:16 type:16 cookie:64 length:32 payload
//
// Nothing the server sends is trusted: lengths are checked against what was
// asked before a byte is read into memory.
//
// Conn.writeMu makes a request and its payload one piece of the stream; Conn.mu
// guards the table of requests in flight. Neither is held while the other is
// taken. One goroutine reads replies until the connection ends.
package nbdclient
