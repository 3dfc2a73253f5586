package report

import (
	"io"
	"os"

	"golang.org/x/term"
)

// Options is how [RenderTable] writes.
type Options struct {
	Color bool // with escape codes
	Width int  // columns; 0 means 80, and the least is 60
}

// OptionsFor is what suits w: its width and, unless NO_COLOR is set or TERM is
// dumb, color when it is a terminal; plain text in 80 columns when it is not.
func OptionsFor(w io.Writer) Options {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return Options{}
	}
	// no-color.org: any value but the empty one.
	o := Options{Color: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
	if width, _, err := term.GetSize(int(f.Fd())); err == nil {
		o.Width = width
	}
	return o
}
