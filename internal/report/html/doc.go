// Package html makes the report that one opens: a single file with every number
// and the evidence behind it, which needs no network, no server and no program
// but a browser.
//
// [Collect] reads datasets into a [Model], [Model.Write] makes the file of it.
// The file holds, in this order: the numbers (JSON), the table of targets (one
// row per measurement, by columns, deflated) and the attempts of targets
// (blocks of measurements, each deflated on its own, opened when asked for). A
// browser opens it in the time the numbers and the table take, whatever lies
// behind them.
//
// # What is left out
//
// A file has a size one can send (Options.Bytes). What does not fit is thinned:
// first the attempts of measurements with nothing wrong, then their rows. What
// is wrong keeps its attempts to the last, and what is kept of the rest is a
// random sample. The page says what was left out.
//
// # Safety
//
// Host names, conditions and words in a dataset come from elsewhere. They enter
// the file as JSON only and the page as text nodes only; a Content-Security-
// Policy lets no script run but ours, by their hashes, and nothing be loaded.
//
// # What may not enter
//
// The network, the control plane, the clock, and new verdicts. What is in
// page/ is plain JavaScript and CSS that is read as it stands; the charts
// library beside it is made by web/build.sh.
package html
