package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"strings"
	"testing"
)

// typist is a list that is typed in: after the first line it is interrupted,
// and the second never comes.
type typist struct {
	line      io.Reader
	interrupt func()
	gone      chan struct{}
}

func (t *typist) Read(b []byte) (int, error) {
	if n, err := t.line.Read(b); err == nil {
		return n, nil
	}
	t.interrupt()
	<-t.gone
	return 0, io.EOF
}

// Ctrl-C while the list is still read must not wait for its end, nor leave a
// directory without a survey.
func TestInterruptedWhileReading(t *testing.T) {
	t.Chdir(t.TempDir())
	ctx, interrupt := context.WithCancel(t.Context())
	in := &typist{line: strings.NewReader("127.0.0.1:1\n"), interrupt: interrupt, gone: make(chan struct{})}
	defer close(in.gone)
	var out, errs bytes.Buffer
	code := run(ctx, []string{"controller", "survey", "--targets", "-"}, in, &out, &errs)
	want := "controller: error: interrupted before the first target; nothing was kept\n"
	if code != int(exitInterrupted) || !strings.HasSuffix(errs.String(), want) || out.Len() > 0 {
		t.Errorf("code %d, stdout %q, stderr %q", code, out.String(), errs.String())
	}
	if left, _ := os.ReadDir("."); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}
