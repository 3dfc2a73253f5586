package dataset

import (
	"io"

	"github.com/parquet-go/parquet-go"
)

// rowWriter is the library's writer of a table, made good where v0.32.0 writes
// what is not so.
type rowWriter[R any] struct {
	w       *parquet.GenericWriter[R]
	columns []optionalColumn
}

func newRowWriter[R any](to io.Writer, options ...parquet.WriterOption) rowWriter[R] {
	return rowWriter[R]{parquet.NewGenericWriter[R](to, append(writerOptions(), options...)...), optionalColumns[R]()}
}

// Write writes all rows, in runs whose nulls come out right.
func (w rowWriter[R]) Write(rows []R) error {
	for len(rows) > 0 {
		n := soundRun(w.columns, rows[:min(maxRun, len(rows))])
		if _, err := w.w.Write(rows[:n]); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// Reset begins a new file. The library's Reset wipes the paths of the columns of
// the last file in memory that it shares with the next one, whose columns then
// have no path (parquet-go issue 602): Spark and Athena cannot read those. So
// they are taken away from the last one first.
func (w rowWriter[R]) Reset(to io.Writer) {
	if last := w.w.File(); last != nil {
		for _, g := range last.Metadata().RowGroups {
			for i := range g.Columns {
				g.Columns[i].MetaData.PathInSchema = nil
			}
		}
	}
	w.w.Reset(to)
}
