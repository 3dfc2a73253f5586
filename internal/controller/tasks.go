package controller

import (
	"context"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "tfofleet/proto/tfofleet/v1"
)

// tasks are those under way, by id: whoever gave one waits for what comes of
// it. They are of one controller, and end with it.
type tasks struct {
	mu    sync.Mutex
	given map[string]*task
}

// task is one that was given to a probe.
type task struct {
	id, probe string
	changed   func()

	mu    sync.Mutex
	taken *pb.TaskState // nil until the probe has answered
	parts []*pb.ReportTaskRequest
	next  uint32 // part
	over  bool   // the last part came
}

// give begins to wait for a task of a probe.
func (t *tasks) give(probe string, changed func()) *task {
	g := &task{id: newID(), probe: probe, changed: changed}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.given == nil {
		t.given = make(map[string]*task)
	}
	t.given[g.id] = g
	return g
}

// forget ends the waiting: the probe is told so with its next part.
func (t *tasks) forget(g *task) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.given, g.id)
}

func (t *tasks) find(probe, id string) *task {
	t.mu.Lock()
	defer t.mu.Unlock()
	if g, ok := t.given[id]; ok && g.probe == probe {
		return g
	}
	return nil
}

// state is how a probe took a task.
func (t *tasks) state(probe string, s *pb.TaskState) {
	g := t.find(probe, s.GetId())
	if g == nil {
		return
	}
	g.mu.Lock()
	if g.taken == nil {
		g.taken = s
	}
	g.over = g.over || s.GetRefused() != ""
	g.mu.Unlock()
	g.changed()
}

// ReportTask implements ProbeService.
func (s *Server) ReportTask(ctx context.Context, req *pb.ReportTaskRequest) (*pb.ReportTaskResponse, error) {
	if err := s.mayBe(ctx, req.GetProbe()); err != nil {
		return nil, err
	}
	g := s.tasks.find(req.GetProbe(), req.GetId())
	if g == nil {
		return &pb.ReportTaskResponse{Over: true}, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case req.GetPart() < g.next: // sent again
		return &pb.ReportTaskResponse{}, nil
	case req.GetPart() > g.next:
		return nil, status.Errorf(codes.FailedPrecondition, "part %d of task %s, where part %d is missing", req.GetPart(), g.id, g.next)
	}
	g.next++
	g.over = g.over || req.GetLast()
	g.parts = append(g.parts, req)
	g.changed()
	return &pb.ReportTaskResponse{}, nil
}

// take is what came since the last call, whether the task was answered, and
// whether it is over.
func (g *task) take() (taken *pb.TaskState, parts []*pb.ReportTaskRequest, over bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	parts, g.parts = g.parts, nil
	return g.taken, parts, g.over
}
