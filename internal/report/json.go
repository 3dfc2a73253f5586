package report

import (
	"encoding/json"
	"io"
)

// RenderJSON writes the summary as one JSON object, indented, with a newline at
// its end. Names: [Summary].
func RenderJSON(w io.Writer, s *Summary) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(s)
}
