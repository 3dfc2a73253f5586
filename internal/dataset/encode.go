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
	attempts     rowWriter[attemptRow]
	measurements rowWriter[measurementRow]

	attemptRows      [batchRows]attemptRow
	attemptCells     [batchRows]attemptCells
	measurementRows  [batchRows]measurementRow
	measurementCells [batchRows]measurementCells
	scratch          []int64
}

func newEncoder() *encoder {
	return &encoder{
		attempts:     newRowWriter[attemptRow](io.Discard),
		measurements: newRowWriter[measurementRow](io.Discard),
	}
}

// attemptsKey is where a file of measurements keeps the id of its attempts.
const attemptsKey = "tfofleet.attempts"

// encode writes ms to both tables, complete and sealed, and returns the id of
// the attempts.
func (c *encoder) encode(attempts, measurements place.File, k *ChunkKey, ms []measure.Measurement) (id string, err error) {
	a, m := &sealer{f: attempts}, &sealer{f: measurements}
	c.attempts.Reset(a)
	c.measurements.Reset(m)
	if err := c.rows(k, ms); err != nil {
		return "", err
	}
	if err := c.attempts.w.Close(); err != nil {
		return "", err
	}
	id = idOf(a.sum)
	c.measurements.w.SetKeyValueMetadata(attemptsKey, id)
	if err := c.measurements.w.Close(); err != nil {
		return "", err
	}
	if err := a.seal(); err != nil {
		return "", err
	}
	return id, m.seal()
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
				if err := c.attempts.Write(c.attemptRows[:na]); err != nil {
					return err
				}
				na = 0
			}
		}
		c.measurementRows[nm].fill(k, m, target, &c.measurementCells[nm], &c.scratch)
		if nm++; nm == batchRows {
			if err := c.measurements.Write(c.measurementRows[:nm]); err != nil {
				return err
			}
			nm = 0
		}
	}
	if err := c.attempts.Write(c.attemptRows[:na]); err != nil {
		return err
	}
	return c.measurements.Write(c.measurementRows[:nm])
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
