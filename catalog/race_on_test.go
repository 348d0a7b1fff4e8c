//go:build race

package catalog

// raceEnabled says that everything takes ten times as long.
const raceEnabled = true
