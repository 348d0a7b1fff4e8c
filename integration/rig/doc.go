// Package rig runs the real strongroom binary the way an operator does: built
// from this tree, started as a process, spoken to through its command line.
// The integration tests, the demo and the benchmarks share it.
//
// A Server has no lock: whoever kills it is the one who starts it again.
package rig
