package identity

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"
)

// switchedCA is a CA's file in the middle of a rotation.
func switchedCA(t testing.TB) *caJSON {
	t.Helper()
	ca, err := OpenCA(t.TempDir(), fuzzTime)
	for range 2 {
		if err == nil {
			err = ca.Advance(fuzzTime, false)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(ca.path)
	if err != nil {
		t.Fatal(err)
	}
	f := new(caJSON)
	if err := decodeFile(data, f); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestMixedCA: parts that are good and not of each other.
func TestMixedCA(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(f, other *caJSON)
		good   bool
	}{
		{"nothing", func(*caJSON, *caJSON) {}, true},
		{"another root's key", func(f, o *caJSON) { f.Current.Key = o.Current.Key }, false},
		{"another root's cross certificate", func(f, o *caJSON) { f.Current.Cross = o.Current.Cross }, false},
		{"another previous root", func(f, o *caJSON) { f.Previous = o.Previous }, false},
		{"no previous root", func(f, _ *caJSON) { f.Previous = "" }, false},
		{"no cross certificate", func(f, _ *caJSON) { f.Current.Cross = "" }, false},
		{"a next root in the wrong stage", func(f, _ *caJSON) { f.Next = &f.Current }, false},
		{"no next root in its stage", func(f, _ *caJSON) { f.Stage = Prepared }, false},
		{"an unknown stage", func(f, _ *caJSON) { f.Stage = 4 }, false},
		{"a fleet that is no name", func(f, _ *caJSON) { f.Fleet = "a/b" }, false},
		{"a key in the certificate's place", func(f, _ *caJSON) { f.Current.Certificate = f.Current.Key }, false},
		{"no key", func(f, _ *caJSON) { f.Current.Key = "" }, false},
		{"two keys", func(f, _ *caJSON) { f.Current.Key += f.Current.Key }, false},
		{"a root that does not sign itself", func(f, _ *caJSON) { f.Current.Certificate = f.Current.Cross }, false},
	} {
		f, other := switchedCA(t), switchedCA(t)
		test.change(f, other)
		data, err := encodeFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseCA(data); (err == nil) != test.good {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// TestFileFormat: a newer file is told from a damaged one.
func TestFileFormat(t *testing.T) {
	f := switchedCA(t)
	for format, want := range map[int]string{2: "format 2; this program knows 1", 0: "format 0; this program knows 1"} {
		f.Format = format
		data, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseCA(data); err == nil || err.Error() != want {
			t.Errorf("%v", err)
		}
	}
	data, err := encodeFile(f)
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.Replace(data, []byte(`"stage": 3`), []byte(`"stage": 1`), 1)
	if _, err := parseCA(data); err == nil || err.Error() != "damaged: the checksum does not fit" {
		t.Errorf("%v", err)
	}
}
