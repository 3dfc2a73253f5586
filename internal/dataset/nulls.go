package dataset

import (
	"math/bits"
	"reflect"
	"strings"
	"unsafe"
)

// optionalColumn is a field that is null when it holds its zero value.
type optionalColumn struct {
	offset uintptr // of what is 0 then
	wide   bool    // it has 8 bytes, not 4
}

func optionalColumns[R any]() (columns []optionalColumn) {
	for _, f := range reflect.VisibleFields(reflect.TypeFor[R]()) {
		if !strings.Contains(f.Tag.Get("parquet"), ",optional") {
			continue
		}
		switch f.Type.Kind() {
		case reflect.String:
			columns = append(columns, optionalColumn{f.Offset + unsafe.Sizeof(uintptr(0)), true}) // its length
		case reflect.Slice:
			columns = append(columns, optionalColumn{f.Offset, true}) // its pointer
		case reflect.Int32:
			columns = append(columns, optionalColumn{f.Offset, false})
		default:
			panic(f.Name + ": a type of optional column that nobody has looked at")
		}
	}
	return columns
}

// maxRun is the number of rows whose nulls are one word.
const maxRun = 64

// soundRun is how many of up to maxRun rows may be written together. Where a
// column's last values of a batch are null, and before them are exactly as many
// that are not as there are rows before those, the library writes "" and 0
// instead of null (parquet-go issue 154; writeRowsFuncOfOptional compares the
// wrong bits). Such a batch is cut behind the values that are not null.
func soundRun[R any](columns []optionalColumn, rows []R) int {
	n := len(rows)
	for i := 0; i < len(columns); i++ {
		values := uint64(0)
		for j := range rows[:n] {
			p := unsafe.Add(unsafe.Pointer(&rows[j]), columns[i].offset)
			if columns[i].wide && *(*uint64)(p) != 0 || !columns[i].wide && *(*uint32)(p) != 0 {
				values |= 1 << j
			}
		}
		end := bits.Len64(values) // of the last run of values
		length := bits.LeadingZeros64(^(values << (64 - end)))
		if begin := end - length; begin > 0 && begin == length && end < n {
			// A shorter batch has other last runs in the columns before.
			n, i = end, -1
		}
	}
	return n
}
