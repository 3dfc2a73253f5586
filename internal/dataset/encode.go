package dataset

import (
	"io"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"tfofleet/internal/dataset/place"
	"tfofleet/internal/measure"
)

// batchRows is how many rows are handed to a table at once.
const batchRows = 64

// encoder turns measurements into the two tables. It keeps its buffers from
// chunk to chunk.
type encoder struct {
	attempts     *parquet.GenericWriter[attemptRow]
	measurements *parquet.GenericWriter[measurementRow]

	attemptRows      [batchRows]attemptRow
	attemptCells     [batchRows]attemptCells
	measurementRows  [batchRows]measurementRow
	measurementCells [batchRows]measurementCells
	scratch          []int64
}

func newEncoder() *encoder {
	return &encoder{
		attempts:     parquet.NewGenericWriter[attemptRow](io.Discard, writerOptions()...),
		measurements: parquet.NewGenericWriter[measurementRow](io.Discard, writerOptions()...),
	}
}

// attemptsKey is where a file of measurements keeps the id of its attempts.
const attemptsKey = "tfofleet.attempts"

// encode writes ms to both tables, complete and sealed, and returns the id of
// the attempts.
func (c *encoder) encode(attempts, measurements place.File, k *ChunkKey, ms []measure.Measurement) (id string, err error) {
	a, m := &sealer{f: attempts}, &sealer{f: measurements}
	reset(c.attempts, a)
	reset(c.measurements, m)
	if err := c.rows(k, ms); err != nil {
		return "", err
	}
	if err := c.attempts.Close(); err != nil {
		return "", err
	}
	id = idOf(a.sum)
	c.measurements.SetKeyValueMetadata(attemptsKey, id)
	if err := c.measurements.Close(); err != nil {
		return "", err
	}
	if err := a.seal(); err != nil {
		return "", err
	}
	return id, m.seal()
}

// reset makes a writer begin a new file. The writer's own Reset wipes the paths
// of the columns of the last file in memory that it shares with the next one,
// whose columns then have no path (parquet-go issue 602, in v0.32.0): Spark and
// Athena cannot read those. So they are taken away from the last one first.
func reset[R any](w *parquet.GenericWriter[R], to io.Writer) {
	if last := w.File(); last != nil {
		for _, g := range last.Metadata().RowGroups {
			for i := range g.Columns {
				g.Columns[i].MetaData.PathInSchema = nil
			}
		}
	}
	w.Reset(to)
}

// rows hands the rows of both tables to their writers.
func (c *encoder) rows(k *ChunkKey, ms []measure.Measurement) error {
	na, nm := 0, 0
	for i := range ms {
		m := &ms[i]
		target := addrText(m.Addr)
		for seq := range m.Attempts {
			c.attemptRows[na].fill(k, m, seq, target, &c.attemptCells[na])
			if na++; na == batchRows {
				if _, err := c.attempts.Write(c.attemptRows[:na]); err != nil {
					return err
				}
				na = 0
			}
		}
		c.measurementRows[nm].fill(k, m, target, &c.measurementCells[nm], &c.scratch)
		if nm++; nm == batchRows {
			if _, err := c.measurements.Write(c.measurementRows[:nm]); err != nil {
				return err
			}
			nm = 0
		}
	}
	if _, err := c.attempts.Write(c.attemptRows[:na]); err != nil {
		return err
	}
	_, err := c.measurements.Write(c.measurementRows[:nm])
	return err
}

// codec compresses every column. The fastest level already finds what repeats
// in tcp_info, the bulk of it.
var codec = &zstd.Codec{Level: zstd.SpeedFastest}

// writerOptions are shared by all tables.
func writerOptions() []parquet.WriterOption {
	return []parquet.WriterOption{
		parquet.Compression(codec),
		// Times and durations, where a column's tag says nothing else.
		parquet.DefaultEncodingFor(parquet.Int64, &parquet.DeltaBinaryPacked),
		// Nobody searches for the smallest of these.
		parquet.SkipPageBounds("cookie"),
		parquet.SkipPageBounds("cookie_before"),
		parquet.SkipPageBounds("cookie_after"),
		parquet.SkipPageBounds("response_hash"),
		parquet.SkipPageBounds("info_handshake"),
		parquet.SkipPageBounds("info_final"),
	}
}
