// Package controller hands out work, takes results in, and turns finished
// chunks into a dataset: the server side of ProbeService and ControlService.
//
//	AddTargets    list -> Sorter -> targets.parquet, one row group per chunk
//	CreateSurvey  survey.json, chunks pending in the store
//	Session       credit -> Claim -> Lease -> accepted, renewed, refused
//	ReportResults batch -> Apply (lease machine, counts, one fsync) -> ack
//	finisher      chunk done -> its batches, decoded -> one Parquet file -> batches dropped
//	RunMesh       listeners, then connections -> both ends of each pair -> the mesh table
//	late          what comes for a chunk that is written -> a late file -> survey.json
//
// All that matters is in the store. What this package keeps in memory is who is
// connected and who waits for news; after a crash [New] goes on where the store
// stands.
//
// Nothing is kept per target: a lease is read from its row group when it is
// sent, and a batch stays compressed until its chunk is finished.
//
// Attempts, sockets and verdicts may not enter.
package controller
