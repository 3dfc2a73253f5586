// Package matrix says what the probes of a mesh found between each other: for
// each port and family who reaches whom how, which pairs differ by direction,
// what is near one probe, and what paths do to addresses and SYNs.
//
//	Collect  rows of the mesh table -> Matrix
//	Render   Matrix -> terminal, JSON, CSV, Markdown
//
// What may not enter: verdicts of its own. That a fault is near a probe is said
// only where every conclusive pair of the probe has one.
package matrix
