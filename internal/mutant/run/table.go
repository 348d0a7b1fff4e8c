package main

// mutant is a planted fault and the tests that should catch it, the quickest
// first.
type mutant struct {
	name  string
	what  string
	tests []test
}

// test is tests of a package, by a pattern of their names.
type test struct {
	pkg, run string
	soak     int // STRONGROOM_SOAK, if more than 1
}

var mutants = []mutant{}
