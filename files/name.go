package files

import (
	"fmt"
	"io/fs"
	"strings"

	"github.com/strongroom-backup/strongroom/catalog"
)

// checkName tells whether a file may have a name: relative, cleaned, components
// separated by slashes.
func checkName(name string) error {
	if err := catalog.CheckFileName(name); err != nil {
		return fmt.Errorf("%w: %w", fs.ErrInvalid, err)
	}
	return nil
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
