package agent

import (
	"context"

	pb "tfofleet/proto/tfofleet/v1"
)

// Tasks does work that is not of a survey. It is mesh.Worker but for tests.
type Tasks interface {
	// Start begins a task and says how it was taken; of one that is known it says
	// so again, for the answer may have been lost with a session. What comes of it
	// is reported part by part: over means that nobody wants it.
	Start(t *pb.Task, report func(context.Context, *pb.ReportTaskRequest) (over bool, err error)) *pb.TaskState
	// End ends a task; what it has is reported.
	End(id string)
	// Active is how many are under way.
	Active() int
	// Close ends all and waits for them.
	Close()
}

// task takes a task, and is what to say to that.
func (a *Agent) task(t *pb.Task) *pb.SessionRequest {
	state := &pb.TaskState{Id: t.GetId(), Refused: "this probe takes no such work"}
	if a.cfg.Tasks != nil {
		state = a.cfg.Tasks.Start(t, a.reportTask)
	}
	if state.GetRefused() != "" {
		a.log.Warn("task refused", "task", t.GetId(), "reason", state.GetRefused())
	}
	return &pb.SessionRequest{Message: &pb.SessionRequest_TaskState{TaskState: state}}
}

func (a *Agent) reportTask(ctx context.Context, req *pb.ReportTaskRequest) (over bool, err error) {
	req.Probe = a.cfg.Name
	resp, err := pb.NewProbeServiceClient(a.cfg.Session).ReportTask(ctx, req)
	return resp.GetOver(), err
}

func (a *Agent) endTask(id string) {
	if a.cfg.Tasks != nil {
		a.cfg.Tasks.End(id)
	}
}
