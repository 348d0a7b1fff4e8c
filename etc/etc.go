// Package etc carries the files an installation begins with.
package etc

import _ "embed"

// Example is the commented configuration; its values are the defaults.
//
//go:embed strongroom.yml
var Example []byte
