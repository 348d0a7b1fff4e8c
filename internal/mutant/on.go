//go:build mutants

package mutant

import "os"

var alive = os.Getenv("STRONGROOM_MUTANT")

// On reports whether the named fault is planted.
func On(name string) bool { return name == alive }
