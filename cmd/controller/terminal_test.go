package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// screen understands the three sequences the terminal writes: up, return,
// clear to the end.
func screen(b string) []string {
	lines := []string{""}
	row := 0
	for b != "" {
		var n int
		switch {
		case strings.HasPrefix(b, "\x1b[J"):
			lines, b = append(lines[:row], ""), b[3:]
		case strings.HasPrefix(b, "\x1b["):
			if _, err := fmt.Sscanf(b, "\x1b[%dA", &n); err != nil {
				return []string{"not understood: " + b}
			}
			row, b = row-n, b[strings.IndexByte(b, 'A')+1:]
		case b[0] == '\r':
			b = b[1:]
		case b[0] == '\n':
			row++
			if row == len(lines) {
				lines = append(lines, "")
			}
			b = b[1:]
		default:
			lines[row] += b[:1]
			b = b[1:]
		}
	}
	return lines
}

// What is written while live lines are shown goes above them, and none of it
// is lost or doubled.
func TestWritesGoAboveLiveLines(t *testing.T) {
	var out bytes.Buffer
	term := newTerminal(&out)
	fmt.Fprintln(term, "one")
	term.show("bar 1", "found 1")
	fmt.Fprintln(term, "two")
	fmt.Fprint(term, "three, without an end")
	term.show("bar 2")
	fmt.Fprintln(term, "four")
	term.show("bar 3", "found 3")
	term.settle()
	fmt.Fprintln(term, "five")
	want := "one\ntwo\nthree, without an end\nfour\nbar 3\nfound 3\nfive\n"
	if got := strings.Join(screen(out.String()), "\n"); got != want {
		t.Errorf("got %q\nwant %q\nfrom %q", got, want, out.String())
	}
}
