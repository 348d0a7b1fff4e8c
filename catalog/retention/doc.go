// Package retention decides which recovery points a set of keep rules keeps.
// It is pure: it knows no clock, no store and no other package of ours.
//
// The rules are those of Proxmox Backup Server, so that an operator who knows
// one knows the other. They are looked at in the order last, hourly, daily,
// weekly (ISO 8601), monthly, yearly, each over all points from the newest to
// the oldest:
//
//   - A rule keeps the newest point of each of its periods, until it has kept
//     as many as it may. Periods without a point do not count.
//   - A period that has a point which an earlier rule kept is covered: the rule
//     passes over it, and it does not count.
//   - The other points of a period the rule kept one of are decided: no later
//     rule keeps them. Points of a covered period stay open to later rules, but
//     only a month can make use of that: a week lies in two of them.
//
// An exempt point (held, locked, manual) stays, takes no slot of any rule and
// covers no period. Without any rule everything stays.
//
// Periods are those of a wall clock in the given place. The hour that a change
// from summer time repeats is one hour; the one that is left out is none.
// Points of the same instant are ordered by their ids, the higher being newer.
package retention
