package nbdio

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

const (
	// fixedNewstyle and noZeroes are the client flags.
	fixedNewstyle = uint32(1)
	noZeroes      = uint32(2)
	// maxOptionReply bounds what the server may send in the handshake, in bytes.
	maxOptionReply = 64 << 10
)

// ErrRefused says that the server answered the export's name with an error.
var ErrRefused = errors.New("export refused")

// Dial opens an export for reading and writing. network and address are as for
// net.Dial. ctx bounds the connection's set-up.
func Dial(ctx context.Context, network, address, export string) (*Client, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	size, flags, err := handshake(conn, export)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("nbd handshake for %q: %w", export, errors.Join(err, ctx.Err()))
	}
	return &Client{conn: conn, size: size, Flags: flags}, nil
}

func handshake(conn net.Conn, export string) (size int64, flags uint16, err error) {
	var hello protocol.NegotiationNewstyleHeader
	if err := binary.Read(conn, binary.BigEndian, &hello); err != nil {
		return 0, 0, err
	}
	if hello.OldstyleMagic != protocol.NEGOTIATION_MAGIC_OLDSTYLE || hello.OptionMagic != protocol.NEGOTIATION_MAGIC_OPTION {
		return 0, 0, errors.New("not a newstyle NBD server")
	}
	if _, err := conn.Write(goOption(export)); err != nil {
		return 0, 0, err
	}
	for {
		done, err := readInfo(conn, &size, &flags)
		if done || err != nil {
			return size, flags, err
		}
	}
}

// goOption is the client's flags and its one option.
func goOption(export string) []byte {
	var b bytes.Buffer
	put := func(v any) { _ = binary.Write(&b, binary.BigEndian, v) }
	put(fixedNewstyle | noZeroes)
	put(protocol.NegotiationOptionHeader{
		OptionMagic: protocol.NEGOTIATION_MAGIC_OPTION,
		ID:          protocol.NEGOTIATION_ID_OPTION_GO,
		Length:      uint32(4 + len(export) + 2),
	})
	put(uint32(len(export)))
	b.WriteString(export)
	put(uint16(0)) // no information requests
	return b.Bytes()
}

// readInfo takes one reply to GO; done is true at the ACK.
func readInfo(conn net.Conn, size *int64, flags *uint16) (done bool, err error) {
	var h protocol.NegotiationReplyHeader
	if err := binary.Read(conn, binary.BigEndian, &h); err != nil {
		return false, err
	}
	if h.ReplyMagic != protocol.NEGOTIATION_MAGIC_REPLY || h.Length > maxOptionReply {
		return false, fmt.Errorf("bad option reply: magic %#x, %d bytes", h.ReplyMagic, h.Length)
	}
	body := make([]byte, h.Length)
	if _, err := io.ReadFull(conn, body); err != nil {
		return false, err
	}
	switch {
	case h.Type == protocol.NEGOTIATION_TYPE_REPLY_ACK:
		return true, nil
	case h.Type&(1<<31) != 0:
		return false, fmt.Errorf("%w: reply %#x: %s", ErrRefused, h.Type, body)
	}
	var info protocol.NegotiationReplyInfo
	if binary.Read(bytes.NewReader(body), binary.BigEndian, &info) == nil && info.Type == protocol.NEGOTIATION_TYPE_INFO_EXPORT {
		*size, *flags = int64(info.Size), info.TransmissionFlags
	}
	return false, nil
}
