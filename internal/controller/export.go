package controller

import (
	"errors"
	"io"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tfofleet/internal/dataset"
	pb "tfofleet/proto/tfofleet/v1"
)

const (
	// filesPerMessage and bytesPerMessage keep messages well below the 4 MiB that
	// gRPC takes.
	filesPerMessage = 4096
	bytesPerMessage = 256 << 10
)

// place is where the dataset of a survey or a mesh is. The name comes from
// outside and becomes part of a path.
func (s *Server) place(id string) (string, error) {
	if len(id) == 0 || len(id) > 64 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return "", status.Errorf(codes.InvalidArgument, "%.80q is no survey's id", id)
	}
	dir := s.cfg.Dataset(id)
	doc, err := dataset.ReadSurvey(dir)
	if err != nil || doc.ID != id {
		return "", status.Errorf(codes.NotFound, "there is no dataset of %s", id)
	}
	return dir, nil
}

// ListResults implements ControlService.
func (s *Server) ListResults(req *pb.ListResultsRequest, stream grpc.ServerStreamingServer[pb.ListResultsResponse]) error {
	dir, err := s.place(req.GetSurvey())
	if err != nil {
		return err
	}
	files, err := dataset.Files(dir)
	if err != nil {
		return rpcError(err)
	}
	for len(files) > 0 {
		part := files[:min(len(files), filesPerMessage)]
		files = files[len(part):]
		resp := &pb.ListResultsResponse{}
		for _, f := range part {
			resp.Files = append(resp.Files, &pb.ResultFile{Name: f.Name, Size: uint64(f.Size)})
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
	return nil
}

// ExportResults implements ControlService.
func (s *Server) ExportResults(req *pb.ExportResultsRequest, stream grpc.ServerStreamingServer[pb.ExportResultsResponse]) error {
	dir, err := s.place(req.GetSurvey())
	if err != nil {
		return err
	}
	buf := make([]byte, bytesPerMessage)
	for _, name := range req.GetFiles() {
		if err := sendFile(dir, name, buf, stream.Send); err != nil {
			return rpcError(err)
		}
	}
	return nil
}

func sendFile(dir, name string, buf []byte, send func(*pb.ExportResultsResponse) error) error {
	f, err := dataset.OpenFile(dir, name)
	if err != nil {
		return status.Errorf(codes.NotFound, "file %.200q: %v", name, err)
	}
	defer f.Close()
	from := io.NewSectionReader(f, 0, f.Size())
	for {
		n, err := io.ReadFull(from, buf)
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return err
		}
		if err := send(&pb.ExportResultsResponse{File: name, Data: buf[:n], Last: last, Size: uint64(f.Size())}); err != nil || last {
			return err
		}
	}
}
