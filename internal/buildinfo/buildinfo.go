// Package buildinfo says which build of Strongroom is running.
package buildinfo

import (
	"runtime"
	"runtime/debug"
)

// version is set at link time:
// -ldflags "-X github.com/strongroom-backup/strongroom/internal/buildinfo.version=v1.2.3"
var version = "devel"

// Info is a build.
type Info struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"` // of the source, with + when it was changed
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Get reads what the linker and the Go tool left in the binary.
func Get() Info {
	i := Info{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return i
	}
	changed := ""
	for _, s := range b.Settings {
		switch {
		case s.Key == "vcs.revision":
			i.Revision = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = "+"
		}
	}
	if i.Revision != "" {
		i.Revision += changed
	}
	return i
}
