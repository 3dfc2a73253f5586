// Package report says what a dataset says, to people and to programs.
//
// [Aggregate] reads a dataset and nothing else, in one pass and in memory that
// does not grow with the number of targets; [RenderTable] and [RenderJSON]
// write what it found. Every report can be made again, anywhere, from the
// directory alone.
//
// What may not enter: the network, the control plane, the clock, and new
// verdicts. Shares and medians are arithmetic on what was stored; the only
// judgement here is which of it needs a person's attention (attention.go).
package report
