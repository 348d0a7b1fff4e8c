// Package files makes the trees that package sftp serves: the files of backup
// sessions, which become images when they are committed, and the points, as
// files that are made when they are read.
package files
