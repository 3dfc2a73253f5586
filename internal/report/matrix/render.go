package matrix

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"tfofleet/internal/report"
)

// Formats lists the forms a matrix can be written in, the default first.
func Formats() []string { return []string{"table", "json", "csv", "markdown"} }

// Render writes the matrix in one of [Formats]; o is for "table".
func Render(w io.Writer, m *Matrix, format string, o report.Options) error {
	switch format {
	case "table":
		return renderTable(w, m, o)
	case "json":
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(m)
	case "csv":
		return renderCSV(w, m)
	case "markdown":
		return renderMarkdown(w, m)
	}
	return fmt.Errorf("unknown format %q", format)
}

// csvHeader names the columns of the CSV. They are stable.
var csvHeader = []string{"mesh", "port", "family", "client", "server", "verdict", "direction", "doubt", "nat_address", "nat_port", "attempts", "joined", "unmatched", "lost"}

// renderCSV writes a line for each pair (RFC 4180).
func renderCSV(w io.Writer, m *Matrix) error {
	c := csv.NewWriter(w)
	// The writer keeps its first error.
	_ = c.Write(csvHeader)
	for t, x := range m.cells {
		_ = c.Write([]string{
			t.Mesh, strconv.Itoa(int(t.Port)), strconv.Itoa(t.Family), x.Client, x.Server, x.Verdict, x.Direction, x.Doubt, x.NATAddress, x.NATPort,
			strconv.Itoa(x.Attempts), strconv.Itoa(x.Joined), strconv.Itoa(x.Unmatched), x.Lost,
		})
	}
	c.Flush()
	return c.Error()
}
