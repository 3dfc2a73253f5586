// Package change tells what differs between two datasets ([Compare]), and
// between what was found of the evidence of one and what is found of it today
// ([Reclassify]).
//
// # Chance
//
// The network flips some targets from one verdict to another and back, whatever
// anybody does. So a comparison is paired, each target with itself, and looks at
// those that changed: where only chance is at work, as many go one way as the
// other. For each verdict the targets that left it and those that came to it are
// held against each other by McNemar's test in its exact form, the p-values are
// adjusted by Holm's method for how many verdicts there are, and for each pair of
// verdicts the changes that have a counterpart in the other direction count as
// chance: all of them where the difference is not significant (Alpha).
//
// What may not enter: rendering, and new rules of what a verdict is.
package change
