// Package spool is what a probe does not forget: the leases it accepted, the
// targets it started, and every record until the controller has it.
//
//	Accept   the lease is durable, then LeaseAccepted is sent
//	Start    the targets are marked, then their first SYN is sent
//	Append   results and events; durable in groups of 64 or after 200 ms
//	Next     durable records, oldest first, as often as it takes
//	Ack      the controller has it: it goes
//	Reject   the controller will never take it: it is put aside, not deleted
//
// A lease goes by itself, when every target of it is settled by a record and
// every such record was acknowledged. After a crash [Open] says what was
// started and has no result (it is interrupted, and Start refuses to run it
// again), and what was never started.
//
// # Keys
//
// The key of a record is a spool id and a sequence number. The number counts
// on for the life of the file; the id is random and new at every opening. So
// neither a wiped disk nor a restored snapshot nor a cloned machine can give
// the same key to two records, without anybody noticing first. What is sent
// again is sent under the key it had.
//
// # When there is no room
//
// Above 80 % of the limit [Spool.Credit] is false. At the limit leases and
// starts are refused with [ErrFull]; results of what was started are always
// taken. Nothing is dropped, unless [Config.OnFull] is [DropOldest]: then the
// oldest records go, a gap record for each lease says which targets they were
// about, and one more how many they were.
//
// When the disk is full, or cannot be written for another reason, Accept and
// Start fail, records wait in memory (few: nothing new can be started), and
// writing is tried again every second. When the disk cannot be trusted any
// more, because a sync failed or the file is corrupt, nothing is tried again
// and every call fails with the reason.
//
// What a record says is not this package's business: messages of the wire,
// evidence and verdicts may not enter.
package spool
