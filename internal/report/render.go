package report

import (
	"fmt"
	"io"
)

// Formats lists the forms a summary can be written in, the default first.
func Formats() []string { return []string{"table", "json", "csv", "markdown"} }

// Render writes the summary in one of [Formats]; o is for "table".
func Render(w io.Writer, s *Summary, format string, o Options) error {
	switch format {
	case "table":
		return RenderTable(w, s, o)
	case "json":
		return RenderJSON(w, s)
	case "csv":
		return RenderCSV(w, s)
	case "markdown":
		return RenderMarkdown(w, s)
	}
	return fmt.Errorf("unknown format %q", format)
}
