package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"tfofleet/internal/identity"
)

// Each step of the exchange of the root says what comes next.
func TestAdvance(t *testing.T) {
	dir := t.TempDir()
	if _, err := identity.OpenCA(dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		flag, out, next string
		code            exitCode
	}{
		{"", "prepared\n", "wait until every probe has connected anew", exitOK},
		{"", "switched\n", "advance again in 90 days", exitOK},
		{"", "", "good until", exitFailure},
		{"--stolen", "steady\n", "the exchange complete", exitOK},
	} {
		var out, errs bytes.Buffer
		args := strings.Fields("controller ca advance --ca " + dir + " " + c.flag)
		code := run(t.Context(), args, strings.NewReader(""), &out, &errs)
		if code != int(c.code) || out.String() != c.out || !strings.Contains(errs.String(), c.next) {
			t.Errorf("code %d, stdout %q, stderr %q; want %d, %q, %q", code, out.String(), errs.String(), c.code, c.out, c.next)
		}
	}
}
