// Package report says what datasets say, to people and to programs.
//
// [Summarize] reads datasets and nothing else, in memory that does not grow with
// the number of targets, and [Render] writes what it found; [WriteTargets]
// streams every target with who is to blame for it. Every report can be made
// again, anywhere, from the directories alone. The rooms within:
//
//	aggregate  counts, in groups and by target
//	blame      who breaks Fast Open for a target
//	origin     AS and country of an address, from files of the user
//	stat       intervals, tests, quantiles
//	change     what differs between two datasets, or after a new look at one
//	export     forms that other tools of the field read
//	matrix     what the probes of a mesh found between each other
//
// What may not enter: the network, the control plane, the clock, and new
// verdicts. The only judgements here are who is to blame, and which of what was
// counted needs a person's attention (attention.go).
package report
