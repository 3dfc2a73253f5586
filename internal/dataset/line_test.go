package dataset

import "testing"

// TestAppendJSON: a line made without a dataset is the line exported from one.
func TestAppendJSON(t *testing.T) {
	dir := sampleDataset(t)
	var lines []byte
	for r, err := range Read(dir) {
		if err != nil {
			t.Fatal(err)
		}
		lines = AppendJSON(lines, r.ChunkKey, &r.Measurement)
	}
	if want := exported(t, dir, JSONL); string(lines) != want {
		t.Errorf("\n%s\nexported\n%s", lines, want)
	}
}
