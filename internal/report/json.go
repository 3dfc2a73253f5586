package report

import "io"

// RenderJSON writes the summary as one JSON object, indented, with a newline at
// its end. Names: [Summary].
func RenderJSON(w io.Writer, s *Summary) error { return renderJSON(w, s) }
