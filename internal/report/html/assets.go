package html

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"io/fs"
)

//go:embed page
var files embed.FS

// Assets is the scripts and styles of the pages, by file name, for whoever
// serves the same look live.
func Assets() fs.FS {
	sub, err := fs.Sub(files, "page")
	if err != nil {
		panic(err) // the directory is embedded above
	}
	return sub
}

// scripts of the report, in the order they run; each uses only those before it.
var scripts = []string{"plot.js", "base.js", "unpack.js", "verdicts.js", "charts.js", "diagram.js", "table.js", "report.js"}

func asset(name string) string {
	b, err := files.ReadFile("page/" + name)
	if err != nil {
		panic(err) // names are those of the directory embedded above
	}
	return string(b)
}

// hash is how a Content-Security-Policy names an inline script.
func hash(script string) string {
	sum := sha256.Sum256([]byte(script))
	return fmt.Sprintf("'sha256-%s'", base64.StdEncoding.EncodeToString(sum[:]))
}
