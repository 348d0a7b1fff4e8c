// Package dedup keeps each block of data once.
package dedup
