// Package dataset keeps everything a survey produced in one self-contained
// directory that outlives us: DuckDB, Spark, ClickHouse and pandas open its
// tables without our code.
//
//	DIR/survey.json                                       the survey: spec, seed, versions, kernels, counts, state
//	DIR/targets.parquet                                   the frozen targets in item order, one row group per chunk
//	DIR/measurements/<survey>.<probe>.<chunk>.parquet     one row per measurement
//	DIR/attempts/<survey>.<probe>.<chunk>.<sum>.parquet   one row per attempt
//	DIR/measurements/<survey>.<probe>.<chunk>.late<n>.parquet, DIR/attempts/<survey>.<probe>.<chunk>.late<n>.<sum>.parquet
//	                                                      what came when the chunk had been written
//	DIR/mesh/<mesh>.parquet                               one row per measurement between two probes: what both saw
//
// DIR is a directory, or an s3:// URL of a prefix in a bucket (see package
// place): whatever takes a dir takes both. Names are percent-encoded in file
// names, a chunk is written with ten digits, so names sort in chunk
// order. The sum is the CRC-32C of the attempts, and stands in the metadata of
// the measurements they belong to, under "tfofleet.attempts".
//
// # What a reader may rely on
//
// Every file is complete or absent; what is not complete has another name, or
// none. A chunk's attempts are published before its measurements: where the
// measurements are, the attempts that they name are too. A chunk is created
// once, by whoever publishes measurements for it first; writing it again
// changes nothing. What comes later is in late files, which are created once as
// well, also when the survey has ended; of a target that is in one, the row of
// the chunk does not count ([Superseded]). survey.json alone is replaced,
// atomically. A survey that is running, was cancelled or was killed therefore leaves a
// dataset that is good to read. Every table is sealed with a checksum over all
// of it (seal.go), which we check before we read it; damage is an error that
// names the file.
//
// Several controllers may write one dataset. That, and a crash, can leave
// attempts without measurements, or those of a controller that came second
// beside those of the first. They go when the dataset is next opened for
// writing (at once where the chunk has been written, after a day otherwise), and
// all of them, but those of late files, when the survey ends. Readers who come from measurements, as we
// do, never see them. Who reads the attempts table alone, before the survey has
// ended, joins it with measurements by survey, probe and item, and takes of two
// files of one chunk the one that the measurements name.
//
// # Tables
//
// Columns, types, units and nulls are listed in SCHEMA.md, which a test keeps
// true. The rules behind them:
//
//   - Flat tables; the only nested columns, conditions and differences, are LISTs of
//     strings.
//   - The unit is in the name: _us are microseconds, _bytes bytes. The kernel's
//     clocks that feed them (TCP_INFO, the scheduler) are no finer than that,
//     so nanoseconds are cut off, not rounded: us = ns / 1000. This and the
//     monotonic part of a time are all that a stored measurement loses.
//   - started is TIMESTAMP in microseconds, UTC, by the probe's clock.
//   - Null means not known, not reached or not there, never 0 and never "".
//     A fact with three answers keeps three: cookie_before_state tells "none"
//     from "not_read" where cookie_before is null in both cases.
//   - Enums are stored by name. A number this version has no name for is
//     stored as that number in digits, so nothing from a newer probe is lost.
//   - What passed on the wire (tfo.Wire) is in the columns wire_*, without its
//     packets but for the headers of SYN and SYN-ACK.
//   - Columns are only ever added. [SchemaVersion] in survey.json grows when a
//     reader has to know.
//
// # Reading
//
// [Read] gives all there is, measurement by measurement; [Rows] leaves out the
// attempts; [Scan] gives columns, for those who count, twenty times as fast.
//
// What may not enter: how files are kept (that is place's), the clock but for
// the age of what a crash left, random numbers, and any opinion on what the
// evidence means. Verdicts are stored as they were given; columns that are
// computed here (saved_us and the medians it comes from) are arithmetic on the
// attempts beside them.
package dataset
