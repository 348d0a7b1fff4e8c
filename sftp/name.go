package sftp

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// resolve makes the path a client sent absolute and clean. It is the only way
// from the wire to a Tree: ".." is taken out here, by the text alone, and stops
// at the root; a component that no tree may have is refused. Errors match
// fs.ErrInvalid.
func resolve(raw string) (string, error) {
	if len(raw) > pathMax {
		return "", fmt.Errorf("%w: a path of %d bytes, at most %d are allowed", fs.ErrInvalid, len(raw), pathMax)
	}
	depth := 0
	for part := range strings.SplitSeq(raw, "/") {
		if part == "" || part == "." || part == ".." {
			continue
		}
		if err := checkComponent(part); err != nil {
			return "", err
		}
		if depth++; depth > depthMax {
			return "", fmt.Errorf("%w: a path of more than %d components", fs.ErrInvalid, depthMax)
		}
	}
	if raw == "" || raw[0] != '/' {
		raw = "/" + raw
	}
	return path.Clean(raw), nil // allocates only when there is something to clean
}

func checkComponent(s string) error {
	if len(s) > nameMax {
		return fmt.Errorf("%w: a name of %d bytes, at most %d are allowed", fs.ErrInvalid, len(s), nameMax)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%w: the name %.80q is not UTF-8", fs.ErrInvalid, s)
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Errorf("%w: the name %.80q has control characters", fs.ErrInvalid, s)
	}
	return nil
}
