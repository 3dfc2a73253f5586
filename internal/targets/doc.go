// Package targets turns target lists as people have them into a frozen order
// of targets, and says which addresses may be measured at all.
//
//   - [Read] streams a list of any of the known formats, also mixed, also
//     compressed, and reports what it can not use line by line.
//   - [Sorter] drops duplicates and puts targets into a seeded pseudorandom
//     order with a bounded amount of memory.
//   - [Policy] denies special-purpose ranges and a blocklist.
//
// Nothing here touches the network: names stay names until a probe resolves
// them. No clock and no unseeded random number may enter this package: the
// same list and seed give the same order on every machine and in every release.
package targets
