package version

import "testing"

func TestString(t *testing.T) {
	if String() == "" {
		t.Error("a build without a version")
	}
}
