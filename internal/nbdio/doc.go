// Package nbdio is the plainest NBD client: fixed newstyle, one request at a
// time, simple replies only. It plays the guest that writes to a disk, and the
// naive client that restores from an export. The message layouts are those of
// go-nbd's protocol package, so every use of it is an interoperability test.
//
//	client                      server
//	                            NegotiationNewstyleHeader
//	flags (4 bytes)
//	NegotiationOptionHeader GO
//	                            NegotiationReplyHeader INFO × n, ACK
//	TransmissionRequestHeader [data]
//	                            TransmissionReplyHeader [data]
//
// Client.mu makes each request and its reply one step.
package nbdio
