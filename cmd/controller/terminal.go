package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
)

// terminal is where people are told how it goes: standard error. It keeps a
// few live lines at the bottom, when it is a terminal, and everything that is
// written goes above them. It is safe for concurrent use, a logger's among it.
type terminal struct {
	mu    sync.Mutex
	w     io.Writer
	fd    int  // of the terminal; -1 when it is none
	color bool // NO_COLOR is not set (https://no-color.org)
	live  string
	shown int // live lines on the screen
}

func newTerminal(w io.Writer) *terminal {
	t := &terminal{w: w, fd: -1}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		t.fd = int(f.Fd())
		t.color = os.Getenv("NO_COLOR") == ""
	}
	return t
}

// interactive reports whether live lines can be shown.
func (t *terminal) interactive() bool { return t.fd >= 0 }

// width is the number of columns.
func (t *terminal) width() int {
	if w, _, err := term.GetSize(t.fd); err == nil && w > 0 {
		return w
	}
	return 80
}

// Write writes above the live lines. A line that is not ended yet stays where
// it is until it is.
func (t *terminal) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shown == 0 {
		return t.w.Write(b)
	}
	var out bytes.Buffer
	out.WriteString(t.erase())
	out.Write(b)
	if !bytes.HasSuffix(b, []byte("\n")) {
		out.WriteByte('\n')
	}
	out.WriteString(t.draw())
	_, err := t.w.Write(out.Bytes())
	return len(b), err
}

// show replaces the live lines. Each must fit the width.
func (t *terminal) show(lines ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	erase := t.erase()
	t.live = strings.Join(lines, "\n")
	fmt.Fprint(t.w, erase+t.draw())
}

// settle leaves the live lines where they are and goes on below them.
func (t *terminal) settle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.live, t.shown = "", 0
}

// erase goes up to the first live line and clears all below.
func (t *terminal) erase() string {
	if t.shown == 0 {
		return ""
	}
	n := t.shown
	t.shown = 0
	return fmt.Sprintf("\x1b[%dA\r\x1b[J", n)
}

func (t *terminal) draw() string {
	if t.live == "" {
		return ""
	}
	t.shown = strings.Count(t.live, "\n") + 1
	return t.live + "\n"
}
