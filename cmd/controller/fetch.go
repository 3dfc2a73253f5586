package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tfofleet/internal/dataset"
	pb "tfofleet/proto/tfofleet/v1"
)

// surveyID is what the id of a survey of a fleet looks like.
var surveyID = regexp.MustCompile(`^[a-z2-7]{13}$`)

// isSurvey reports whether an argument is a survey of a fleet, not a dataset
// here.
func isSurvey(arg string) bool {
	if !surveyID.MatchString(arg) {
		return false
	}
	_, err := os.Stat(arg)
	return errors.Is(err, fs.ErrNotExist)
}

// withDatasets calls f with the datasets that the arguments name. Those of
// surveys of a fleet are fetched, and gone afterwards.
func (o *operator) withDatasets(ctx context.Context, args []string, f func(dirs []string) error) error {
	if !slices.ContainsFunc(args, isSurvey) {
		return f(args)
	}
	scratch, err := os.MkdirTemp("", "tfofleet-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	dirs := slices.Clone(args)
	err = control(o.controller, func(c pb.ControlServiceClient) error {
		for i, arg := range args {
			if !isSurvey(arg) {
				continue
			}
			dirs[i] = dataset.Join(scratch, arg)
			if err := fetch(ctx, c, arg, dirs[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return f(dirs)
}

// copyDataset fetches what is missing of a survey's dataset.
func (a *app) copyDataset(ctx context.Context, o operator, survey, dir string) error {
	if !isSurvey(survey) {
		return usage("--out copies a survey of a fleet: %s is no survey's id", survey)
	}
	return control(o.controller, func(c pb.ControlServiceClient) error { return fetch(ctx, c, survey, dir) })
}

// filesAtATime bounds a request.
const filesAtATime = 1000

// fetch copies into dir what it lacks of a survey's dataset. Cut off, it can be
// called again.
func fetch(ctx context.Context, c pb.ControlServiceClient, survey, dir string) error {
	files, err := listResults(ctx, c, survey)
	if err != nil {
		return err
	}
	missing, err := dataset.Missing(dir, survey, files)
	if err != nil {
		return fail(exitCannotWrite, err, "name another directory")
	}
	for part := range slices.Chunk(missing, filesAtATime) {
		if err := fetchFiles(ctx, c, survey, dir, part); err != nil {
			return err
		}
	}
	return nil
}

func listResults(ctx context.Context, c pb.ControlServiceClient, survey string) (files []dataset.File, err error) {
	stream, err := c.ListResults(ctx, &pb.ListResultsRequest{Survey: survey})
	for err == nil {
		var m *pb.ListResultsResponse
		if m, err = stream.Recv(); err == nil {
			for _, f := range m.GetFiles() {
				files = append(files, dataset.File{Name: f.GetName(), Size: int64(f.GetSize())})
			}
		}
	}
	if !errors.Is(err, io.EOF) {
		return nil, err
	}
	return files, nil
}

func fetchFiles(ctx context.Context, c pb.ControlServiceClient, survey, dir string, files []dataset.File) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req := &pb.ExportResultsRequest{Survey: survey}
	for _, f := range files {
		req.Files = append(req.Files, f.Name)
	}
	stream, err := c.ExportResults(ctx, req)
	if err != nil {
		return err
	}
	for _, f := range files {
		first, err := stream.Recv()
		if err != nil {
			return err
		}
		if first.GetFile() != f.Name {
			return fmt.Errorf("the controller sends %.200q where %s was asked for", first.GetFile(), f.Name)
		}
		f.Size = int64(first.GetSize())
		from := &pieces{stream: stream.Recv, piece: first}
		if err := dataset.Receive(dir, f, from); err != nil {
			if status.Code(from.err) != codes.OK && from.err != nil {
				return from.err
			}
			return unwritable(dir, err)
		}
		if err := from.drain(); err != nil {
			return err
		}
	}
	return nil
}

// pieces is a file as it comes.
type pieces struct {
	stream func() (*pb.ExportResultsResponse, error)
	piece  *pb.ExportResultsResponse
	err    error
}

// Read implements io.Reader.
func (p *pieces) Read(b []byte) (int, error) {
	for len(p.piece.GetData()) == 0 {
		if p.piece.GetLast() {
			return 0, io.EOF
		}
		if p.piece, p.err = p.stream(); p.err != nil {
			return 0, p.err
		}
	}
	n := copy(b, p.piece.GetData())
	p.piece.Data = p.piece.GetData()[n:]
	return n, nil
}

// drain takes what was not read, which is at most the empty last piece.
func (p *pieces) drain() error {
	var rest strings.Builder
	if _, err := io.Copy(&rest, p); err != nil {
		return err
	}
	if rest.Len() > 0 {
		return fmt.Errorf("%d bytes more than the file has", rest.Len())
	}
	return nil
}
