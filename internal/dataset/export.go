package dataset

import (
	"bufio"
	"errors"
	"io"
	"syscall"
)

// Format is how [Export] writes a measurement.
type Format string

const (
	// JSONL is one JSON object per line and measurement, attempts within.
	JSONL Format = "jsonl"
	// CSV is RFC 4180 with a header, one line per measurement.
	CSV Format = "csv"
	// Pairs is one JSON object per line and pair of a mesh, with what the server
	// saw of every connection.
	Pairs Format = "mesh"
)

// Export streams every measurement of the dataset to w, one per line, in the
// order of [Read]. Names and values are those of the tables (SCHEMA.md), with
// times in RFC 3339 (UTC, µs), cookies and hashes in hex and tcp_info in
// base64. Null is null in JSON and an empty field in CSV.
//
// JSON has the attempts as a list of objects. CSV has one column for them,
// attempts_made, with a word per attempt: kind, option kind, acked of sent SYN
// bytes, end, errno, as in "plain:response data34(202/202):response".
//
// Pairs has the mesh table (SCHEMA.md); in place of its evidence are arrivals
// and alarms, as [tfo.ArrivalJSON] and [tfo.AlarmJSON] have them, each arrival
// with the attempt it is of. A dataset without a mesh has none.
//
// A reader that goes away (EPIPE) has what it wants: that is no error.
func Export(dir string, f Format, w io.Writer) error {
	e := &exporter{w: bufio.NewWriterSize(w, 1<<16)}
	err := e.export(dir, f)
	if err == nil {
		err = e.w.Flush()
	}
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return err
}

type exporter struct {
	w    *bufio.Writer
	line []byte
}

func (e *exporter) export(dir string, f Format) error {
	if f == Pairs {
		return e.pairs(dir)
	}
	add := appendJSONLine
	if f == CSV {
		add = appendCSVLine
		if _, err := e.w.Write(csvHeader()); err != nil {
			return err
		}
	}
	for j, err := range joins(dir) {
		if err != nil {
			return err
		}
		e.line = add(e.line[:0], j)
		if _, err := e.w.Write(e.line); err != nil {
			return err
		}
	}
	return nil
}
