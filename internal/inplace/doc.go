// Package inplace makes a disk that exists what it was at a recovery point, and
// writes only what differs.
package inplace
