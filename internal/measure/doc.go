// Package measure turns attempts into a verdict. It holds the plans (which
// attempt comes next, given those already made), the payloads, and [Classify],
// which names a verdict from evidence alone. Where the target is a listener of
// ours, [Joint] names it from what both ends recorded.
//
// [Next], [Classify] and [Joint] are pure: the same attempts give the same
// answer today and when they are read back from a dataset years later. No
// clock, no random number and no system call may enter them. [Runner] leads
// targets through them on the attempt engine of internal/tfo.
package measure
