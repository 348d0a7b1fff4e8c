package nbdclient

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

// Target is an export and where it is.
type Target struct {
	Network string      // tcp or unix
	Address string      // host:port or path
	Export  string      // name
	TLS     *tls.Config // nil: no TLS
	// Contexts are metadata contexts that the server must offer, besides
	// Allocation, which it must offer in any case.
	Contexts []string
}

// dialTimeout bounds connecting and the handshake.
const dialTimeout = 30 * time.Second

// ErrRefused says that the server does not serve the export; the text says why.
var ErrRefused = errors.New("the server refuses the export")

// NoContextError says that the server does not offer a metadata context of an
// export.
type NoContextError struct {
	Export  string
	Context string
}

func (e *NoContextError) Error() string {
	if e.Context == Allocation {
		return fmt.Sprintf("the server does not tell the holes of export %q (metadata context %s)", e.Export, e.Context)
	}
	return fmt.Sprintf("the server does not offer the metadata context %q of export %q", e.Context, e.Export)
}

// Dial opens an export. When ctx ends the connection is closed, and
// whatever waits on it fails.
func Dial(ctx context.Context, t Target) (*Conn, error) {
	nc, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, t.Network, t.Address)
	if err != nil {
		return nil, err
	}
	h := &handshake{nc: nc}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(dialTimeout))
	if err := h.run(t); err != nil {
		stop()
		h.nc.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("open export %q at %s: %w", t.Export, t.Address, err)
	}
	nc.SetDeadline(time.Time{})
	return newConn(h, stop), nil
}

type handshake struct {
	nc       net.Conn
	size     int64
	flags    uint16
	contexts map[string]uint32
}

func (h *handshake) run(t Target) error {
	if err := h.greet(); err != nil {
		return err
	}
	if t.TLS != nil {
		if err := h.startTLS(t.TLS); err != nil {
			return err
		}
	}
	if err := h.option(optStructured, nil, nil); err != nil {
		return fmt.Errorf("structured replies: %w", err)
	}
	if err := h.setContexts(t.Export, t.Contexts); err != nil {
		return err
	}
	return h.open(t.Export)
}

func (h *handshake) greet() error {
	var g [18]byte
	if _, err := io.ReadFull(h.nc, g[:]); err != nil {
		return fmt.Errorf("read greeting: %w", err)
	}
	flags := binary.BigEndian.Uint16(g[16:])
	if binary.BigEndian.Uint64(g[:]) != magicGreeting || binary.BigEndian.Uint64(g[8:]) != magicOption ||
		flags&flagFixedNewstyle == 0 || flags&flagNoZeroes == 0 {
		return fmt.Errorf("%w: greeting %x", ErrProtocol, g)
	}
	_, err := h.nc.Write(binary.BigEndian.AppendUint32(nil, flagFixedNewstyle|flagNoZeroes))
	return err
}

func (h *handshake) startTLS(config *tls.Config) error {
	if err := h.option(optStartTLS, nil, nil); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	c := tls.Client(h.nc, config)
	if err := c.Handshake(); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	h.nc = c
	return nil
}

// setContexts selects Allocation and more.
func (h *handshake) setContexts(export string, more []string) error {
	want := []string{Allocation}
	for _, name := range more {
		if !slices.Contains(want, name) {
			want = append(want, name)
		}
	}
	if len(want) > contextsMax {
		return fmt.Errorf("%d metadata contexts at once, at most %d are possible", len(want), contextsMax)
	}
	data := binary.BigEndian.AppendUint32(appendString(nil, export), uint32(len(want)))
	for _, name := range want {
		data = appendString(data, name)
	}
	h.contexts = map[string]uint32{}
	ids := map[uint32]bool{}
	err := h.option(optSetContext, data, func(kind uint32, reply []byte) error {
		if kind != repMeta || len(reply) < 4 {
			return fmt.Errorf("%w: reply %d to SET_META_CONTEXT", ErrProtocol, kind)
		}
		id, name := binary.BigEndian.Uint32(reply), string(reply[4:])
		if _, twice := h.contexts[name]; twice || ids[id] || !slices.Contains(want, name) {
			return fmt.Errorf("%w: metadata context %q, id %d, was not asked for or comes twice", ErrProtocol, name, id)
		}
		h.contexts[name], ids[id] = id, true
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range want {
		if _, ok := h.contexts[name]; !ok {
			return &NoContextError{Export: export, Context: name}
		}
	}
	return nil
}

func (h *handshake) open(export string) error {
	found := false
	err := h.option(optGo, binary.BigEndian.AppendUint16(appendString(nil, export), 0), func(kind uint32, reply []byte) error {
		if kind != repInfo || len(reply) < 2 {
			return fmt.Errorf("%w: reply %d to GO", ErrProtocol, kind)
		}
		if binary.BigEndian.Uint16(reply) != infoExport {
			return nil
		}
		if len(reply) != 12 || binary.BigEndian.Uint64(reply[2:]) >= 1<<63 {
			return fmt.Errorf("%w: export information %x", ErrProtocol, reply)
		}
		h.size, h.flags, found = int64(binary.BigEndian.Uint64(reply[2:])), binary.BigEndian.Uint16(reply[10:]), true
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("%w: no export information", ErrProtocol)
	}
	return err
}

// option sends an option and reads replies until the acknowledgement; each
// reply before it goes to each.
func (h *handshake) option(opt uint32, data []byte, each func(kind uint32, data []byte) error) error {
	msg := binary.BigEndian.AppendUint64(nil, magicOption)
	msg = binary.BigEndian.AppendUint32(msg, opt)
	msg = binary.BigEndian.AppendUint32(msg, uint32(len(data)))
	if _, err := h.nc.Write(append(msg, data...)); err != nil {
		return err
	}
	for range optionRepliesMax {
		kind, reply, err := h.reply(opt)
		switch {
		case err != nil:
			return err
		case kind == repAck:
			return nil
		case kind&repErrBit != 0:
			return fmt.Errorf("%w: %s", ErrRefused, refusal(kind, reply))
		case each == nil:
			return fmt.Errorf("%w: reply %d to option %d", ErrProtocol, kind, opt)
		}
		if err := each(kind, reply); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: endless replies to option %d", ErrProtocol, opt)
}

func (h *handshake) reply(opt uint32) (kind uint32, data []byte, err error) {
	var head [20]byte
	if _, err := io.ReadFull(h.nc, head[:]); err != nil {
		return 0, nil, fmt.Errorf("read reply to option %d: %w", opt, err)
	}
	n := binary.BigEndian.Uint32(head[16:])
	if binary.BigEndian.Uint64(head[:]) != magicReply || binary.BigEndian.Uint32(head[8:]) != opt || n > optionReplyMax {
		return 0, nil, fmt.Errorf("%w: reply %x to option %d", ErrProtocol, head, opt)
	}
	data = make([]byte, n)
	_, err = io.ReadFull(h.nc, data)
	return binary.BigEndian.Uint32(head[12:]), data, err
}

var refusals = map[uint32]string{
	1: "not supported", 2: "forbidden by policy", 3: "invalid", 4: "platform", 5: "TLS is required",
	6: "unknown export", 7: "the server is shutting down", 8: "block size required", 9: "too big",
}

func refusal(kind uint32, text []byte) string {
	if len(text) > 0 {
		return fmt.Sprintf("%q", text)
	}
	if s, ok := refusals[kind&^repErrBit]; ok {
		return s
	}
	return fmt.Sprintf("error %d", kind&^repErrBit)
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}
