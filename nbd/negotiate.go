package nbd

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
)

// errAborted ends a negotiation that the client gave up in good order.
var errAborted = errors.New("nbd: client aborted the negotiation")

// negotiation is the state of option haggling. It is gone once an export has
// been chosen; STARTTLS forgets what was agreed before it.
type negotiation struct {
	c         *conn
	fixed     bool // client speaks fixed newstyle
	noZeroes  bool
	encrypted bool
	// options counts those still allowed.
	options int
	heard   bool // the client has sent an option
	data    []byte
	out     []byte

	structured bool
	// meta is what the last SET_META_CONTEXT selected, for the export metaFor.
	meta    []string
	metaFor string
}

// negotiate runs the handshake. It returns the export chosen; or nil and the
// error to report, nil when there is nothing to report.
func (c *conn) negotiate() (*admitted, error) {
	n := &negotiation{c: c, options: maxOptions}
	c.in = stream{buf: make([]byte, streamBuffer), more: n.more}
	timeout := c.srv.limits.HandshakeTimeout
	if c.refused {
		timeout = min(timeout, refusalTimeout)
	}
	c.allowHandshake(timeout)
	a, err := n.run()
	if a != nil {
		if err != nil {
			return nil, errors.Join(err, c.srv.dismiss(c, a))
		}
		return a, nil
	}
	switch {
	case errors.Is(err, errAborted):
		return nil, nil
	case !n.heard && err != nil && !isProtocolError(err):
		return nil, nil // connected and went away, or never spoke NBD
	}
	return nil, err
}

// isProtocolError tells our own verdicts from errors of the connection.
func isProtocolError(err error) bool {
	for _, e := range []error{errClientFlags, errOptionMagic, errOptionSize, errNeedsTLS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (n *negotiation) more(dst []byte, _ int, _ bool) (int, error) {
	k, err := n.c.rw.Read(dst)
	if k > 0 {
		n.c.got += int64(k)
		return k, nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return 0, err
}

func (n *negotiation) run() (*admitted, error) {
	if err := n.greet(); err != nil {
		return nil, err
	}
	for {
		id, length, err := n.nextOption()
		if err != nil {
			return nil, err
		}
		a, err := n.option(id, length)
		if a != nil || err != nil {
			return a, err
		}
		if err := n.send(); err != nil {
			return nil, err
		}
	}
}

// greet sends the greeting and reads the client's flags.
func (n *negotiation) greet() error {
	b := n.out[:0]
	b = binary.BigEndian.AppendUint64(b, magicGreeting)
	b = binary.BigEndian.AppendUint64(b, magicOption)
	b = binary.BigEndian.AppendUint16(b, flagFixedNewstyle|flagNoZeroes)
	n.out = b
	if err := n.send(); err != nil {
		return err
	}
	f, err := n.c.in.need(4)
	if err != nil {
		return err
	}
	flags := binary.BigEndian.Uint32(f)
	n.c.in.skip(4)
	if flags&^uint32(flagFixedNewstyle|flagNoZeroes) != 0 {
		return errClientFlags
	}
	n.fixed = flags&uint32(flagFixedNewstyle) != 0
	n.noZeroes = flags&uint32(flagNoZeroes) != 0
	if !n.fixed && n.tlsDemanded() {
		// The protocol has no TLS for such clients.
		return errNeedsTLS
	}
	return nil
}

// tlsOffered says whether STARTTLS is possible on this connection.
func (n *negotiation) tlsOffered() bool { return n.c.srv.tls != nil && n.fixed }

// tlsDemanded says whether everything but STARTTLS and ABORT is refused.
func (n *negotiation) tlsDemanded() bool {
	return n.c.srv.forceTLS && n.c.tcp && !n.encrypted
}

// nextOption reads an option's header.
func (n *negotiation) nextOption() (id, length uint32, err error) {
	h, err := n.c.in.need(optionHeaderSize)
	if err != nil {
		return 0, 0, err
	}
	magic := binary.BigEndian.Uint64(h)
	id, length = binary.BigEndian.Uint32(h[8:]), binary.BigEndian.Uint32(h[12:])
	n.c.in.skip(optionHeaderSize)
	n.heard = true
	if magic != magicOption {
		return 0, 0, errOptionMagic
	}
	if length > maxOptionSkip {
		return 0, 0, errOptionSize
	}
	if n.options--; n.options < 0 {
		return 0, 0, errTooMany
	}
	return id, length, nil
}

// option answers one option; the answer is left in n.out. An export is
// returned when the client has chosen one and everything has been sent.
func (n *negotiation) option(id, length uint32) (*admitted, error) {
	if rep, text := n.barred(id); rep != 0 {
		if err := n.c.in.discard(int(length)); err != nil {
			return nil, err
		}
		if id == optExportName {
			return nil, n.barredError(rep)
		}
		n.fail(id, rep, text)
		return nil, nil
	}
	switch id {
	case optStartTLS:
		return nil, n.startTLS(length)
	case optAbort:
		return nil, n.abort(length)
	}
	ok, err := n.read(length)
	if err != nil {
		return nil, err
	}
	if id == optExportName {
		return n.exportName(ok)
	}
	if !ok {
		n.tooLong(id)
		return nil, nil
	}
	return n.parsed(id)
}

// parsed answers the options whose data is in n.data.
func (n *negotiation) parsed(id uint32) (*admitted, error) {
	switch id {
	case optList:
		return nil, n.list()
	case optInfo:
		n.info()
	case optGo:
		return n.enter()
	case optStructuredReply:
		n.structuredReply()
	case optListMeta, optSetMeta:
		n.metaOption(id)
	default:
		n.fail(id, repErrUnsup, "")
	}
	return nil, nil
}

// barred names the answer to every option in a state where none is served.
func (n *negotiation) barred(id uint32) (rep uint32, text string) {
	switch {
	case id == optAbort:
		return 0, ""
	case n.c.refused:
		return repErrPolicy, "the server has as many connections as it may have, try again later"
	case n.c.draining.Load():
		return repErrShut, "the server is shutting down"
	case id != optStartTLS && n.tlsDemanded():
		return repErrTLSReqd, "this server demands TLS"
	}
	return 0, ""
}

func (n *negotiation) barredError(rep uint32) error {
	if rep == repErrTLSReqd {
		return errNeedsTLS
	}
	return errUnavailable
}

// read takes an option's data into n.data; ok is false when it is too long to
// be looked at, and then it has been read over.
func (n *negotiation) read(length uint32) (ok bool, err error) {
	if length > maxOptionData {
		return false, n.c.in.discard(int(length))
	}
	if cap(n.data) < int(length) {
		n.data = make([]byte, length)
	}
	n.data = n.data[:length]
	return true, n.c.in.full(n.data)
}

// tooLong answers a known option whose data was not looked at.
func (n *negotiation) tooLong(id uint32) {
	switch id {
	case optList, optStructuredReply, optInfo, optGo:
		n.fail(id, repErrInvalid, "option data is longer than it can be")
	case optListMeta, optSetMeta:
		n.failMeta(id, repErrTooBig, "too many or too long queries")
	default:
		n.fail(id, repErrUnsup, "")
	}
}

// reply appends an option reply.
func (n *negotiation) reply(id, rep uint32, parts ...[]byte) {
	length := 0
	for _, p := range parts {
		length += len(p)
	}
	b := n.out
	b = binary.BigEndian.AppendUint64(b, magicOptionReply)
	b = binary.BigEndian.AppendUint32(b, id)
	b = binary.BigEndian.AppendUint32(b, rep)
	b = binary.BigEndian.AppendUint32(b, uint32(length))
	for _, p := range parts {
		b = append(b, p...)
	}
	n.out = b
}

// fail appends an error reply with a text for a human.
func (n *negotiation) fail(id, rep uint32, text string) {
	n.reply(id, rep, []byte(clip(text, maxErrorText)))
}

// failExport appends the reply to an error of Exports.
func (n *negotiation) failExport(id uint32, err error) {
	rep := repErrPolicy
	if errors.Is(err, ErrUnknownExport) || errors.Is(err, ErrRefused) {
		rep = repErrUnknown
	}
	n.fail(id, rep, err.Error())
}

// send writes the replies gathered so far.
func (n *negotiation) send() error {
	if len(n.out) == 0 {
		return nil
	}
	_, err := n.c.rw.Write(n.out)
	n.out = n.out[:0]
	return err
}

func (n *negotiation) abort(length uint32) error {
	if err := n.c.in.discard(int(length)); err != nil {
		return errAborted
	}
	n.reply(optAbort, repAck)
	_ = n.send() // the client may be gone already
	return errAborted
}

func (n *negotiation) structuredReply() {
	switch {
	case len(n.data) > 0:
		n.fail(optStructuredReply, repErrInvalid, "STRUCTURED_REPLY takes no data")
	case n.structured:
		n.fail(optStructuredReply, repErrInvalid, "structured replies are on already")
	default:
		n.structured = true
		n.reply(optStructuredReply, repAck)
	}
}

// startTLS upgrades the connection. Nothing agreed in the clear survives it.
func (n *negotiation) startTLS(length uint32) error {
	if err := n.c.in.discard(int(length)); err != nil {
		return err
	}
	switch {
	case length > 0:
		n.fail(optStartTLS, repErrInvalid, "STARTTLS takes no data")
		return nil
	case n.encrypted:
		n.fail(optStartTLS, repErrInvalid, "TLS is on already")
		return nil
	case !n.tlsOffered():
		n.fail(optStartTLS, repErrPolicy, "this server has no TLS here")
		return nil
	case n.c.in.buffered() > 0:
		// Somebody put plain bytes before the TLS handshake in the hope that
		// they are taken for the client's own afterwards.
		return errInjection
	}
	n.reply(optStartTLS, repAck)
	if err := n.send(); err != nil {
		return err
	}
	n.structured, n.meta, n.metaFor = false, nil, ""
	return n.encrypt()
}

func (n *negotiation) encrypt() error {
	c := n.c
	c.sock = newTLSSocket(c.raw)
	c.sock.got = c.got
	t := tls.Server(c.sock, c.srv.tls)
	if err := t.HandshakeContext(context.Background()); err != nil {
		return &tlsError{err}
	}
	c.rw = t
	c.peer = c.peer.withTLS(t.ConnectionState())
	n.encrypted = true
	return nil
}

// tlsError marks a failed TLS handshake: with TLS 1.3 the client may believe
// that it succeeded, so only our log tells.
type tlsError struct{ err error }

func (e *tlsError) Error() string { return "TLS handshake failed: " + e.err.Error() }
func (e *tlsError) Unwrap() error { return e.err }
