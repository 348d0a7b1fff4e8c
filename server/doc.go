// Package server is the composition root: it opens the engines on a data
// directory, serves them over NBD and the control API, and turns what they
// return into logs, metrics and answers.
package server
