package dataset

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/parquet-go/parquet-go"
)

type nullsRow struct {
	Text   string `parquet:"text,optional"`
	Word   string `parquet:"word,optional,dict"`
	Blob   []byte `parquet:"blob,optional"`
	Number int32  `parquet:"number,optional"`
}

func (r *nullsRow) set(column int) {
	switch column {
	case 0:
		r.Text = "x"
	case 1:
		r.Word = "y"
	case 2:
		r.Blob = []byte("z")
	case 3:
		r.Number = 1
	}
}

// levels are the definition levels of every column, as written.
func levels(t *testing.T, w rowWriter[nullsRow], rows []nullsRow) [4][]byte {
	t.Helper()
	var out bytes.Buffer
	w.Reset(&out)
	if err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.w.Close(); err != nil {
		t.Fatal(err)
	}
	pf, err := parquet.OpenFile(bytes.NewReader(out.Bytes()), int64(out.Len()))
	if err != nil {
		t.Fatal(err)
	}
	var all [4][]byte
	for c := range all {
		pages := pf.RowGroups()[0].ColumnChunks()[c].Pages()
		p, err := pages.ReadPage()
		if err != nil {
			t.Fatal(err)
		}
		all[c] = slices.Clone(p.DefinitionLevels())
		pages.Close()
	}
	return all
}

// A null is written as null wherever it is.
func TestNulls(t *testing.T) {
	w := newRowWriter[nullsRow](new(bytes.Buffer))
	check := func(rows []nullsRow, want [4][]byte) {
		t.Helper()
		if got := levels(t, w, rows); !slices.EqualFunc(got[:], want[:], bytes.Equal) {
			t.Fatalf("levels %v, want %v", got, want)
		}
	}
	// Every pattern of few rows, the same in all columns.
	for n := 1; n <= 8; n++ {
		for pattern := range 1 << n {
			rows, want := make([]nullsRow, n), [4][]byte{}
			for i := range rows {
				for c := range want {
					want[c] = append(want[c], byte(pattern>>i&1))
					if pattern>>i&1 == 1 {
						rows[i].set(c)
					}
				}
			}
			check(rows, want)
		}
	}
	// Long ones, of which columns have other patterns, with runs of any length.
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 500 {
		rows, want := make([]nullsRow, 1+r.IntN(200)), [4][]byte{}
		for c := range want {
			for i := 0; i < len(rows); {
				value := byte(r.IntN(2))
				for range min(1+r.IntN(40), len(rows)-i) {
					if want[c] = append(want[c], value); value == 1 {
						rows[i].set(c)
					}
					i++
				}
			}
		}
		check(rows, want)
	}
}
