// Command bench measures Strongroom and its peers side by side, in one run on
// one machine: the bars of docs/PERFORMANCE.md.
//
//	go run ./bench                      everything, on a 4 GiB disk of real files
//	go run ./bench --rows 1,4 --rounds 5
//	go run ./bench --help
//
// A row of the table is one or more contests. A contest lets every contender
// do the same work, in turns (A B C A B C …, so that a machine that gets slower
// gets slower for all), after a warm-up turn that is thrown away. What is
// printed is minimum, median and maximum, and for each bar the ratio of the
// medians beside the ratios of the single rounds.
//
// The disk is an ext4 file system filled with files of this machine, made once
// and kept in the cache directory. Everything is read from the page cache and
// written to one directory; memory is touched and old files are synced before
// the clock starts, so that no contender pays for the one before it.
//
// How a run goes:
//
//	main      options → tools → space → image → rows → report
//	row*.go   one row each: its contests, built from a bench's fixtures
//	contest   turns, warm-up, verdicts
//	measure   one turn: wall clock, CPU of clients and server, peak memory
//	server    the real strongroom binary, driven by its command line
//	peers     qemu-nbd, nbdkit, restic, borg
//
// The program is sequential; its only goroutines wait for child processes. CPU
// time of clients is what the kernel says of children that have ended, so
// nothing else may start children while a turn is measured.
package main
