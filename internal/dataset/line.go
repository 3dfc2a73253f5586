package dataset

import "tfofleet/internal/measure"

// AppendJSON appends a measurement as the line that [Export] would write for it
// as JSONL, newline included, for programs that never make a dataset.
func AppendJSON(b []byte, k ChunkKey, m *measure.Measurement) []byte {
	target := addrText(m.Addr)
	var row measurementRow
	var cells measurementCells
	row.fill(&k, m, target, &cells, new([]int64))
	j := &join{measurement: &row, attempts: make([]attemptRow, len(m.Attempts))}
	attempts := make([]attemptCells, len(m.Attempts))
	for seq := range m.Attempts {
		j.attempts[seq].fill(&k, m, seq, target, &attempts[seq])
	}
	return appendJSONLine(b, j)
}
