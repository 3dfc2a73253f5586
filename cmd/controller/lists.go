package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"tfofleet/internal/measure"
	"tfofleet/internal/targets"
	pb "tfofleet/proto/tfofleet/v1"
)

// shownBadLines is how many bad lines are shown; all are counted.
const shownBadLines = 20

// lists are the opened target lists of a survey.
type lists struct {
	term  *terminal
	opts  targets.ReadOptions
	names []string
	files []io.Reader
	live  bool // show how far the reading is
}

// openLists opens every list before anything is made, so that a mistyped name
// costs nothing.
func (a *app) openLists(f *surveyFlags) (*lists, error) {
	l := &lists{term: a.term, live: !f.quiet && a.term.interactive()}
	l.opts = targets.ReadOptions{
		Ports: f.ports.list, Strict: f.strict,
		Family: map[string]targets.Family{"4": targets.IPv4, "6": targets.IPv6}[f.family.value],
	}
	for _, name := range f.targets {
		file := a.stdin
		if name == "-" {
			for _, other := range l.names {
				if other == "stdin" {
					return nil, usage("--targets - given twice: standard input can be read once")
				}
			}
			name = "stdin"
		} else {
			opened, err := openFile(name, "check the path in --targets FILE; \"-\" reads standard input")
			if err != nil {
				l.close()
				return nil, err
			}
			file = opened
		}
		l.names, l.files = append(l.names, name), append(l.files, file)
	}
	return l, nil
}

// openFile opens a file for reading and refuses a directory.
func openFile(name, hint string) (*os.File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, unreadable(err, hint)
	}
	if st, err := f.Stat(); err == nil && st.IsDir() {
		f.Close()
		return nil, unreadable(fmt.Errorf("%s is a directory", name), hint)
	}
	return f, nil
}

func (l *lists) close() {
	for i, f := range l.files {
		if c, ok := f.(io.Closer); ok && l.names[i] != "stdin" {
			c.Close()
		}
	}
}

// read streams all lists to emit and reports bad lines as they come.
func (l *lists) read(emit func(measure.Target) error) (st targets.ReadStats, err error) {
	bad := 0
	defer func() {
		l.term.show()
		if bad > shownBadLines && !l.opts.Strict {
			fmt.Fprintf(l.term, "controller: and %s more bad lines\n", count(uint64(bad-shownBadLines)))
		}
	}()
	l.opts.OnBad = func(e *targets.LineError) {
		if bad++; bad <= shownBadLines && !l.opts.Strict {
			fmt.Fprintln(l.term, e)
		}
	}
	read, shown := 0, time.Time{}
	for i, f := range l.files {
		one, err := targets.Read(f, l.names[i], l.opts, func(t measure.Target) error {
			if read++; l.live && read%1024 == 0 && time.Since(shown) > 100*time.Millisecond {
				shown = time.Now()
				l.term.show(fmt.Sprintf("reading %s: %s targets", l.names[i], count(uint64(read))))
			}
			return emit(t)
		})
		st.Add(one)
		if err != nil {
			return st, err
		}
	}
	return st, nil
}

// name is what the survey is called: after its lists.
func (l *lists) name() string { return strings.Join(l.names, ", ") }

// uploadBatch is how many targets a message holds: some 20 kB.
const uploadBatch = 1024

// errUpload marks an error of the stream, as against one of the list.
var errUpload = errors.New("upload")

// upload sends the targets that read emits to the controller and freezes them.
func upload(ctx context.Context, control pb.ControlServiceClient, seed uint64, read func(emit func(measure.Target) error) error) (*pb.AddTargetsResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // a list that cannot be read to its end must not be frozen
	stream, err := control.AddTargets(ctx)
	if err != nil {
		return nil, err
	}
	batch := &pb.AddTargetsRequest{Seed: seed}
	send := func() error {
		if err := stream.Send(batch); err != nil {
			return errUpload // CloseAndRecv knows why
		}
		batch = &pb.AddTargetsRequest{}
		return nil
	}
	err = read(func(t measure.Target) error {
		if batch.Targets = append(batch.Targets, measure.TargetToWire(t)); len(batch.Targets) < uploadBatch {
			return nil
		}
		return send()
	})
	if err == nil && (len(batch.Targets) > 0 || batch.Seed == seed) {
		err = send()
	}
	if err != nil && !errors.Is(err, errUpload) {
		return nil, err
	}
	return stream.CloseAndRecv()
}
