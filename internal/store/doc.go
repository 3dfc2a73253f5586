// Package store is the durable memory of a controller: surveys, the leases of
// their chunks, and the results of chunks that are not finished yet.
//
// A [Store] runs the lease machine: an event is applied to the state that is
// stored, in the transaction that stores the next one, together with the batch
// of results it brought and the running counts. Nothing is cached outside of
// it, so what anybody was told is what a crash leaves behind.
//
// Every call returns after its effect is durable: it survives the death of the
// process and a loss of power. That is why a batch may be acknowledged as soon
// as Apply returns.
//
// Batches are opaque: they are stored as they came and given back when the
// chunk is finished, then dropped. The store does not know what a measurement
// looks like, and counts by what the event says.
//
// [OpenSQLite] needs nothing installed and is for one controller;
// [OpenPostgres] is for several that share a fleet. storetest has the suite that
// both pass. Either keeps the records of package identity in the same database.
//
// The schema is made and brought up to date by the numbered scripts under
// migrations.
package store
