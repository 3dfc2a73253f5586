// Package aggregate counts what datasets hold: verdicts in groups of any
// properties, what Fast Open saves, and for every target what all vantage points
// and repeats say together (package blame). It is the engine of reports; what
// they look like is package report's.
//
// # The way of a measurement
//
// [Run] scans the tables by columns, in as many goroutines as there are
// processors. Each counts for itself: a worker (worker.go) turns a batch of rows
// into codes of the properties asked for (dimension.go) and adds every row to
// one cell of each crossing (crossing.go). All probes' batches of one part of
// the list come to the same worker, one after the other, so targets are judged
// as soon as a part is complete (targets.go) and then forgotten. Only targets of
// several datasets, which are in a different order in each, take a way over
// temporary files (spill.go).
//
// Memory grows with the groups asked for, the conditions there are and the
// probes; not with the number of targets.
//
// What may not enter: names for people, and any opinion on what a count means.
package aggregate
