package policy

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"tfofleet/internal/measure"
	"tfofleet/internal/targets"
)

// doNotProbe is a list of networks and names whose owners do not want to be
// measured.
type doNotProbe struct {
	nets   *targets.Prefixes
	names  map[string]struct{}
	digest [sha256.Size]byte // of the file
}

// parseDoNotProbe reads a list: a prefix, an address or a name on each line,
// with '#' comments. A name stands for all names below it too; "*." before it is
// allowed and changes nothing. A bad line is an error: it is somebody who is not
// protected.
func parseDoNotProbe(data []byte, name string) (doNotProbe, error) {
	l := doNotProbe{digest: sha256.Sum256(data)}
	var others []int // lines that are no prefix
	var err error
	l.nets, err = targets.ParseBlocklist(bytes.NewReader(data), name, func(bad *targets.LineError) { others = append(others, bad.Line) })
	if err != nil || len(others) == 0 {
		return l, err
	}
	// The list reader of targets knows what a name is, and how it is written.
	lines := bytes.Split(data, []byte("\n"))
	var names bytes.Buffer
	for _, n := range others {
		text, _, _ := strings.Cut(string(lines[n-1]), "#")
		text = strings.TrimPrefix(strings.TrimSpace(text), "*.")
		if strings.ContainsAny(text, ":/,{") || strings.TrimSpace(text) == "" {
			return l, fmt.Errorf("%s:%d: neither a prefix, an address nor a name: %q", name, n, shown(text))
		}
		names.WriteString(text + "\n")
	}
	l.names = make(map[string]struct{}, len(others))
	_, err = targets.Read(&names, name, targets.ReadOptions{Ports: []uint16{1}, Strict: true}, func(t measure.Target) error {
		l.names[t.Hostname] = struct{}{}
		return nil
	})
	var bad *targets.LineError
	if errors.As(err, &bad) {
		err = fmt.Errorf("%s:%d: %s: %s", name, others[bad.Line-1], bad.Reason, bad.Text)
	}
	return l, err
}

// hasName reports whether a name, or a domain above it, is on the list.
func (l *doNotProbe) hasName(host string) bool {
	if len(l.names) == 0 || host == "" {
		return false
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for {
		if _, ok := l.names[host]; ok {
			return true
		}
		var more bool
		if _, host, more = strings.Cut(host, "."); !more {
			return false
		}
	}
}
