package sftp

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	sshfx "github.com/pkg/sftp/v2/encoding/ssh/filexfer"
)

// statusOf maps what a Tree returned to the codes that version 3 has; OpenSSH
// maps alike.
func statusOf(err error) sshfx.Status {
	switch {
	case err == nil:
		return sshfx.StatusOK
	case errors.Is(err, io.EOF):
		return sshfx.StatusEOF
	case errors.Is(err, errMalformed):
		return sshfx.StatusBadMessage
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return sshfx.StatusNoSuchFile
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return sshfx.StatusPermissionDenied
	case errors.Is(err, errors.ErrUnsupported):
		return sshfx.StatusOpUnsupported
	}
	return sshfx.StatusFailure
}

// clientsFault says that an error is about the request and of no interest to
// who runs the server.
func clientsFault(err error) bool {
	for _, known := range []error{
		io.EOF, fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, fs.ErrInvalid, errors.ErrUnsupported,
		syscall.ENOTDIR, syscall.EISDIR, syscall.ENOTEMPTY, syscall.EROFS, syscall.EDQUOT,
		errMalformed, errHandle, errManyHandles,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// message is an error's text as a client gets it: valid UTF-8, one line, short.
func message(err error) string {
	if err == nil {
		return ""
	}
	s := strings.ToValidUTF8(err.Error(), "?")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	return clip(s, textMax)
}

// clip cuts a text at a rune boundary.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// appendStatus adds a STATUS:
//
//	length (4) | 101 (1) | id (4) | code (4) | text (4+n) | language (4)
func appendStatus(b []byte, id uint32, code sshfx.Status, text string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(1+4+4+4+len(text)+4))
	b = append(b, byte(sshfx.PacketTypeStatus))
	b = binary.BigEndian.AppendUint32(b, id)
	b = binary.BigEndian.AppendUint32(b, uint32(code))
	b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
	b = append(b, text...)
	return binary.BigEndian.AppendUint32(b, 0)
}
