// Package policy is what a probe's own operator lets it do, whatever a
// controller asks for.
//
//   - [Policy] is a policy.yaml, checked and compiled; it does not change.
//   - [Policy.Tighten] adds what a controller demands. The result is never
//     looser than either, in any dimension.
//   - [Guard] is the policy in force: it asks the kill switch, counts what every
//     address has had, keeps the log of contacts, and reloads.
//
// Check is asked on the resolved address, right before every SYN. A refusal is a
// result: its [Reason] becomes a condition of the measurement.
//
// A file that cannot be understood to the last key is no policy: nothing is
// guessed, and the one in force stays. Where something cannot be found out (is
// the kill switch there? is this address over its budget?) the answer is no.
//
// No packet is sent here and no name resolved.
package policy
