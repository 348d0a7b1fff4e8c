package qcow2

import (
	"errors"
	"fmt"
)

// ErrUnsupported is wrapped by the errors about images that may be well formed
// but use what a Reader does not support.
var ErrUnsupported = errors.New("not supported")

// FormatError says that a file is not a well-formed qcow2 image.
type FormatError struct {
	Offset int64 // byte of the file where the wrong thing stands
	Reason string
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("malformed qcow2 image, at byte %d of the file: %s; see what qemu-img check says of it", e.Offset, e.Reason)
}

func malformed(at int64, format string, args ...any) error {
	return &FormatError{at, fmt.Sprintf(format, args...)}
}

// unsupported says what was found and what to do about it.
func unsupported(format string, args ...any) error {
	return fmt.Errorf("qcow2 image: %s (%w)", fmt.Sprintf(format, args...), ErrUnsupported)
}
