package metrics

import "github.com/strongroom-backup/strongroom/nbd"

var (
	nbdRequests = counter("nbd_requests_total", "NBD requests answered, errors included.", "command")
	nbdBytes    = counter("nbd_request_bytes_total", "Bytes read, written, zeroed, trimmed or asked about by NBD requests that succeeded.", "command")
	nbdErrors   = counter("nbd_request_errors_total", "NBD requests answered with an error.", "command", "errno")
	nbdDuration = histogram("nbd_request_duration_seconds", "Time from the last byte of an NBD request to its reply.", "command")
	nbdUnknown  = counter("nbd_unknown_commands_total", "NBD requests with a command number that is not known.")

	nbdOpen     = gauge("nbd_connections", "NBD connections open, those in the handshake included.")
	nbdAccepted = counter("nbd_connections_accepted_total", "NBD connections accepted.")
	nbdRefused  = counter("nbd_connections_refused_total", "NBD connections refused because nbd.max-connections was reached.")
	nbdFailed   = counter("nbd_handshake_failures_total", "NBD connections that ended in the handshake with an error.")
	nbdFenced   = counter("nbd_connections_fenced_total", "NBD connections closed so that a newer one to the same disk could be let in.")

	nbdBuffer  = gauge("nbd_buffer_bytes", "Buffer memory lent to NBD requests.")
	nbdLimit   = gauge("nbd_buffer_limit_bytes", "Buffer memory that may be lent (nbd.buffer-memory).")
	nbdWaiting = gauge("nbd_buffer_waiting", "NBD connections that wait for buffer memory.")
)

func collectNBD(to sink, s nbd.Stats) {
	for _, c := range s.Commands {
		put(to, nbdRequests, c.Requests, c.Command)
		put(to, nbdBytes, c.Bytes, c.Command)
		putHist(to, nbdDuration, c.Latency, c.Command)
		for errno, n := range c.Errors {
			put(to, nbdErrors, n, c.Command, errno)
		}
	}
	put(to, nbdUnknown, s.UnknownCommands)
	put(to, nbdOpen, s.ConnectionsOpen)
	put(to, nbdAccepted, s.ConnectionsTotal)
	put(to, nbdRefused, s.ConnectionsRefused)
	put(to, nbdFailed, s.HandshakeFailures)
	put(to, nbdFenced, s.Fenced)
	put(to, nbdBuffer, s.BudgetBytes)
	put(to, nbdLimit, s.BudgetLimit)
	put(to, nbdWaiting, s.BudgetWaiting)
}
