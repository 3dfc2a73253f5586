package controller

import (
	"context"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "tfofleet/proto/tfofleet/v1"
)

// tasks are those under way, by id: whoever gave one waits for what comes of
// it. They are of one controller, which their probes are connected to, and end
// with it.
type tasks struct {
	mu    sync.Mutex
	given map[string]*task
}

// task is one that was given to a probe.
type task struct {
	id, probe string
	order     *pb.Task
	changed   func()

	mu    sync.Mutex
	taken *pb.TaskState // nil until the probe has answered
	parts []*pb.ReportTaskRequest
	next  uint32 // part
	over  bool   // the last part came
	ended bool   // the probe was told to end it
}

// giveTask gives a probe a task, and calls changed whenever something comes of
// it. A probe without a session gets it when it is reminded.
func (s *Server) giveTask(probe string, order *pb.Task, changed func()) *task {
	order.Id = newID()
	g := &task{id: order.Id, probe: probe, order: order, changed: changed}
	s.tasks.mu.Lock()
	if s.tasks.given == nil {
		s.tasks.given = make(map[string]*task)
	}
	s.tasks.given[g.id] = g
	s.tasks.mu.Unlock()
	s.send(probe, &pb.SessionResponse{Message: &pb.SessionResponse_Task{Task: order}})
	return g
}

// endTask has a probe end a task, and report what it has.
func (s *Server) endTask(g *task) {
	if g == nil {
		return
	}
	g.mu.Lock()
	g.ended = true
	g.mu.Unlock()
	s.send(g.probe, &pb.SessionResponse{Message: &pb.SessionResponse_EndTask{EndTask: &pb.EndTask{Id: g.id}}})
}

// remind says again what a probe may not have heard, for its session ended. It
// knows a task that it has.
func (s *Server) remind(g *task) {
	if g == nil {
		return
	}
	g.mu.Lock()
	asked, ended := g.taken == nil && !g.ended, g.ended && !g.over
	g.mu.Unlock()
	switch {
	case asked:
		s.send(g.probe, &pb.SessionResponse{Message: &pb.SessionResponse_Task{Task: g.order}})
	case ended:
		s.endTask(g)
	}
}

// forgetTask ends a task, and the waiting for it: a probe that did not hear of
// the end is told with its next part.
func (s *Server) forgetTask(g *task) {
	if g == nil {
		return
	}
	s.tasks.mu.Lock()
	delete(s.tasks.given, g.id)
	s.tasks.mu.Unlock()
	s.endTask(g)
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
