package dataset

import (
	"testing"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

// What the Go enums say of themselves is what is stored.
func TestEnumNames(t *testing.T) {
	for i := range 256 {
		if v := measure.Verdict(i); v > 0 && int(v) <= len(measure.Verdicts()) && verdicts.name(v) != v.String() {
			t.Errorf("verdict %d is stored as %q", i, verdicts.name(v))
		}
	}
	for got, want := range map[string]string{
		outcomes.name(measure.OutcomeInterrupted): "interrupted",
		kinds.name(tfo.KindSized):                 "sized",
		ends.name(tfo.EndInterrupted):             "interrupted",
		tris.name(tfo.Yes):                        "yes",
		cookieStates.name(tfo.CookieNotRead):      "not_read",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// A value that was added later passes through a version that does not know it.
func TestEnumOfAnotherVersion(t *testing.T) {
	older, newer := newEnum[tfo.Kind]("unknown", "plain"), newEnum[tfo.Kind]("unknown", "plain", "request")
	if v, err := newer.parse("kind", older.name(2)); v != 2 || err != nil {
		t.Errorf("what the older stored: %d, %v", v, err)
	}
	if v, err := older.parse("kind", older.name(2)); v != 2 || err != nil {
		t.Errorf("what the older stored, read by it: %d, %v", v, err)
	}
	if _, err := older.parse("kind", newer.name(2)); err == nil {
		t.Error("what the newer stored has no number in the older")
	}
}
