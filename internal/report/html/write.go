package html

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"strings"
)

// Write makes the report of the datasets in dirs: [Collect], then
// [Model.Write].
func Write(ctx context.Context, w io.Writer, o Options, dirs ...string) error {
	m, err := Collect(ctx, o, dirs...)
	if err != nil {
		return err
	}
	return m.Write(w, o)
}

// Write writes the file. Of the options it takes Bytes.
func (m *Model) Write(w io.Writer, o Options) error {
	raw, err := json.Marshal(&m.table)
	if err != nil {
		return err
	}
	table, err := deflate(raw)
	if err != nil {
		return err
	}
	// Where the attempts are is a part of the table, so its size is known only
	// after the choice; the columns grow by a few bytes per row kept.
	const slack = 6
	room := o.withDefaults().Bytes - encoded(len(table)) - slack*m.table.N - len(page())
	blocks := m.fit(room)
	if raw, err = json.Marshal(&m.table); err != nil {
		return err
	}
	if table, err = deflate(raw); err != nil {
		return err
	}
	numbers, err := json.Marshal(m)
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(w, 1<<16)
	head, foot, _ := strings.Cut(page(), bodyMark)
	fmt.Fprint(b, strings.Replace(head, titleMark, template.HTMLEscapeString(m.Title), 1))
	embedJSON(b, "numbers", numbers)
	embedBytes(b, "table", table)
	for i, bl := range blocks {
		embedBytes(b, fmt.Sprintf("block%d", i), bl.data)
	}
	fmt.Fprint(b, foot)
	return b.Flush()
}

// fit points the rows at the blocks there is room for, and counts them.
func (m *Model) fit(room int) []block {
	const tags = 80 // of the element around a block
	n := 0
	for n < len(m.evidence) && encoded(len(m.evidence[n].data))+tags <= room {
		room -= encoded(len(m.evidence[n].data)) + tags
		n++
	}
	for i := range m.table.Block {
		m.table.Block[i], m.table.At[i] = -1, 0
	}
	m.Kept.Full = 0
	for i := range m.Kept.Class {
		m.Kept.Class[i].Full = 0
	}
	for i, bl := range m.evidence[:n] {
		for at, row := range bl.rows {
			m.table.Block[row], m.table.At[row] = i, at
		}
		m.Kept.Full += uint64(len(bl.rows))
		m.Kept.Class[bl.class].Full += uint64(len(bl.rows))
	}
	return m.evidence[:n]
}

// embedJSON puts JSON where no markup of its strings is markup of the page:
// encoding/json writes <, > and & as escapes.
func embedJSON(w io.Writer, id string, b []byte) {
	fmt.Fprintf(w, "<script type=\"application/json\" id=%q>%s</script>\n", id, b)
}

func embedBytes(w io.Writer, id string, b []byte) {
	fmt.Fprintf(w, "<script type=\"application/octet-stream\" id=%q>%s</script>\n", id, base64.StdEncoding.EncodeToString(b))
}

const (
	titleMark = "<!--title-->"
	bodyMark  = "<!--data-->"
)

// page is the file without its data.
func page() string {
	var hashes, code strings.Builder
	for _, name := range scripts {
		script := "\n" + asset(name)
		hashes.WriteString(" " + hash(script))
		code.WriteString("<script>" + script + "</script>\n")
	}
	return strings.NewReplacer(
		"{{csp}}", "default-src 'none'; script-src"+hashes.String()+"; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'",
		"{{style}}", asset("style.css"),
		"{{scripts}}", code.String(),
		"{{licences}}", template.HTMLEscapeString(asset("plot.LICENSES.txt")),
	).Replace(asset("report.html"))
}
