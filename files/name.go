package files

import (
	"fmt"
	"io/fs"
	"strings"
	"unicode"
	"unicode/utf8"
)

// checkName tells whether a file may have a name: relative, cleaned, components
// separated by slashes.
func checkName(name string) error {
	bad := func(why string) error { return fmt.Errorf("%w: name %.300q: %s", fs.ErrInvalid, name, why) }
	if name == "" || len(name) > maxName {
		return bad(fmt.Sprintf("a name has 1 to %d bytes, its folders included", maxName))
	}
	parts := strings.Split(name, "/")
	if len(parts) > maxDepth {
		return bad(fmt.Sprintf("folders go %d deep", maxDepth))
	}
	for _, p := range parts {
		if why := badComponent(p); why != "" {
			return bad(why)
		}
	}
	return nil
}

// badComponent says why p may not be one component of a name; "" when it may.
func badComponent(p string) string {
	switch {
	case p == "" || p == "." || p == "..":
		return "a component is missing or is '.' or '..'"
	case len(p) > maxComponent:
		return fmt.Sprintf("a component has at most %d bytes", maxComponent)
	case !utf8.ValidString(p):
		return "names are UTF-8"
	case strings.ContainsFunc(p, func(r rune) bool { return r == 0 || unicode.IsControl(r) }):
		return "no control characters"
	}
	return ""
}

// split cuts a cleaned absolute name into its first component and the rest.
func split(name string) (first, rest string) {
	first, rest, _ = strings.Cut(strings.TrimPrefix(name, "/"), "/")
	return first, rest
}

// parent is the folder of a relative name, "" for the top.
func parent(name string) string {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i]
	}
	return ""
}

// base is the last component of a name.
func base(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

// within reports whether name lies in folder dir, "" being the top.
func within(name, dir string) bool {
	return dir == "" || len(name) > len(dir) && name[len(dir)] == '/' && strings.HasPrefix(name, dir)
}
