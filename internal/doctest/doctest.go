// Package doctest finds what the documents say one can type, so that a test can
// hold it against the programs. It is for tests only.
package doctest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Root is the root of the repository, from a package two levels below it.
const Root = "../.."

// Documents are the documents for users, by path.
func Documents(t testing.TB) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(Root + "/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	paths = append(paths, Root+"/README.md", Root+"/CHANGELOG.md", Root+"/internal/dataset/SCHEMA.md")
	texts := make(map[string]string)
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		texts[p] = string(b)
	}
	return texts
}

// Command is what a document says one can type.
type Command struct {
	Where string   // file and text
	Args  []string // without the program
	// Mentioned: within a line, where it may be without its arguments.
	Mentioned bool
}

var (
	fence = regexp.MustCompile("(?s)```.*?```")
	span  = regexp.MustCompile("`([^`\n]+)`")
	ends  = regexp.MustCompile(`\s(#|\||>|&|2>).*$`)
)

// Commands are all calls of a program, in blocks of code and within lines. What
// stands for a number is 1: "--rate N".
func Commands(t testing.TB, program string) (cs []Command) {
	t.Helper()
	typed := regexp.MustCompile(`^(?:bin/|go run \./cmd/)?` + program + `\s+(\S.*)$`)
	for path, text := range Documents(t) {
		var lines []string
		for line := range strings.Lines(text) {
			if code, ok := strings.CutPrefix(line, "    "); ok {
				lines = append(lines, strings.TrimSpace(code))
			}
		}
		blocks := len(lines)
		for _, m := range span.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			lines = append(lines, m[1])
		}
		for i, line := range lines {
			m := typed.FindStringSubmatch(ends.ReplaceAllString(line, ""))
			if m == nil {
				continue
			}
			args := strings.Fields(m[1])
			for k, a := range args {
				args[k] = strings.Trim(a, `"'`)
				if a == "N" {
					args[k] = "1"
				}
			}
			cs = append(cs, Command{filepath.Base(path) + ": " + line, args, i >= blocks})
		}
	}
	if len(cs) < 5 {
		t.Fatalf("found only %v", cs)
	}
	return cs
}
