// Package mutant plants faults, to see that a test notices each of them.
//
// Where the engines do something for safety's sake, they ask On whether just
// that is to be left out or done wrong. Without the build tag mutants the answer
// is a constant, so that nothing of it is in the program. With the tag, the one
// mutant whose name is in the environment variable STRONGROOM_MUTANT lives.
//
//	make mutants
//
// builds the tests with the tag, runs for each mutant those that should catch
// it (the table is in run/table.go), and prints which did. One that survives
// fails the run, and so does one that stands in the table or in the code only.
package mutant
