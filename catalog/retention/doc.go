// Package retention decides which recovery points a set of keep rules keeps.
// It is pure: it knows no clock, no store and no other package of ours.
package retention
