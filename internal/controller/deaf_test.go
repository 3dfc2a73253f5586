package controller_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tfofleet/internal/lease"
	pb "tfofleet/proto/tfofleet/v1"
)

// TestDeafProbe: a probe whose connection is alive and that takes nothing any
// more, as when its disk hangs, has its session ended. It holds up nobody else.
func TestDeafProbe(t *testing.T) {
	t.Parallel()
	r := openWith(t, t.TempDir(), 50*time.Millisecond, lease.DefaultRules(10*time.Second))
	id := r.survey(t, 100_000, spec())
	s := r.raw(t)
	if _, err := s.hello(&pb.Hello{Probe: "fra", Instance: "1"}); err != nil {
		t.Fatal(err)
	}
	s.credit(1 << 20) // more than fits on the way
	speaking, stop := context.WithCancel(ctx)
	t.Cleanup(stop)
	go func() { // it is heard of all the same
		for speaking.Err() == nil && s.Send(&pb.SessionRequest{Message: &pb.SessionRequest_Heartbeat{Heartbeat: &pb.Heartbeat{}}}) == nil {
			time.Sleep(50 * time.Millisecond)
		}
	}()
	var held int
	r.await(t, "nothing more fits on the way", func() bool {
		before := held
		held = r.phases(t, []string{"fra"})[lease.Offered]
		time.Sleep(time.Second)
		return held > 0 && held == before
	})
	limited, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if _, err := r.ctl.CancelSurvey(limited, &pb.CancelSurveyRequest{Survey: id}); err != nil {
		t.Errorf("the survey cannot be cancelled: %v", err)
	}
	r.await(t, "its session ends", func() bool { return !r.server.Connected("fra") })
	if st := r.watch(t, id, ended); st.GetCancelled() != 100_000 {
		t.Errorf("ended as %v", st)
	}
}

// TestAcksThatNobodyTakes: batches that wait for room on their way to the disk do
// not wait for who takes no acks.
func TestAcksThatNobodyTakes(t *testing.T) {
	t.Parallel()
	r := open(t, t.TempDir())
	c, err := r.dial()
	if err != nil {
		t.Fatal(err)
	}
	life, stop := context.WithCancel(ctx)
	defer stop()
	var sent atomic.Int64
	for range 20 {
		stream, err := pb.NewProbeServiceClient(c).ReportResults(life)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			ref := &pb.LeaseRef{Survey: strings.Repeat("none", 5_000)} // the acks say that there is none such
			for stream.Send(&pb.ReportResultsRequest{Probe: "fra", Lease: ref, Measurements: make([]byte, 3<<20)}) == nil {
				sent.Add(1)
			}
		}()
	}
	r.await(t, "nothing more is taken", func() bool {
		before := sent.Load()
		time.Sleep(time.Second)
		return before > 0 && sent.Load() == before
	})
	done := make(chan *pb.ReportResultsResponse)
	go func() {
		done <- r.results(t, &pb.ReportResultsRequest{Probe: "sin", Lease: &pb.LeaseRef{Survey: "none"}})
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Errorf("after %d batches of one probe nobody else gets his in", sent.Load())
		stop()
		<-done
	}
}
