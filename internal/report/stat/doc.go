// Package stat is the arithmetic of reports: intervals, tests, quantiles. Every
// function is pure and holds for any input.
//
// What may not enter: datasets, verdicts, and words. What a number means is said
// where it is shown.
package stat
