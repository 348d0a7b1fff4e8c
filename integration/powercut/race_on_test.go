//go:build race

package powercut

// underRace: the race detector makes everything some eight times slower, and
// the data of the tests does not matter to it.
const underRace = true
