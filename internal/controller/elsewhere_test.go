package controller_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"tfofleet/internal/store/pgtest"
	pb "tfofleet/proto/tfofleet/v1"
)

// two are controllers that share a fleet.
func two(t *testing.T) [2]*rig {
	t.Helper()
	var rigs [2]*rig
	dir, url := t.TempDir(), pgtest.New(t)
	for i := range rigs {
		st, err := openStore(url)
		if err != nil {
			t.Fatal(err)
		}
		rigs[i] = lateRig(t, dir, fmt.Sprint("c", i+1), st)
	}
	return rigs
}

// next is the next message that is no ack of a heartbeat.
func (s *rawSession) next() *pb.SessionResponse {
	s.t.Helper()
	for {
		m, err := s.Recv()
		if err != nil {
			s.t.Fatal(err)
		}
		if m.GetHeartbeatAck() == nil {
			return m
		}
	}
}

// TestToldElsewhere: a probe's limit and its drain are said to another controller
// than the one it is connected to. It hears of them without a new session.
func TestToldElsewhere(t *testing.T) {
	t.Parallel()
	rigs := two(t)
	here, other := rigs[0], rigs[1].store
	s := here.raw(t)
	if w, err := s.hello(&pb.Hello{Probe: "fra", Instance: "1"}); err != nil || w.GetLimits() != nil {
		t.Fatalf("%v, %v", w, err)
	}
	for _, rate := range []float64{12.5, 3, 0} { // 0 takes it away
		if err := other.LimitProbe(ctx, "fra", rate); err != nil {
			t.Fatal(err)
		}
		if m := s.next(); m.GetLimits() == nil || m.GetLimits().GetRate() != rate {
			t.Errorf("limited to %v, it was told %v", rate, m)
		}
	}
	if err := other.LimitProbe(ctx, "fra", 7); err != nil {
		t.Fatal(err)
	}
	if m := s.next(); m.GetLimits().GetRate() != 7 {
		t.Errorf("it was told %v", m)
	}

	// What comes next is a lease, and no limit that it knows; and it comes when the
	// drain is over.
	if err := other.DrainProbe(ctx, "fra", true); err != nil {
		t.Fatal(err)
	}
	s.credit(1)
	id := rigs[1].survey(t, 3, spec())
	here.await(t, "the survey is known here", func() bool { return here.server.Knows(id) })
	held, err := other.HeldBy(ctx, "fra")
	if err != nil || len(held) > 0 {
		t.Errorf("drained, it holds %v, %v", held, err)
	}
	if err := other.DrainProbe(ctx, "fra", false); err != nil {
		t.Fatal(err)
	}
	if m := s.next(); m.GetLease().GetRef().GetSurvey() != id {
		t.Errorf("it was told %v", m)
	}
}

// TestMeshOfProbesElsewhere: probes that are connected to another controller come
// to the one that was asked for a mesh; the user is told before anything starts.
// One that does not come takes no part.
func TestMeshOfProbesElsewhere(t *testing.T) {
	t.Parallel()
	rigs := two(t)
	c1, c2 := rigs[0], rigs[1]
	c1.server.Hurry(3 * time.Second)
	to, err := c1.dial()
	if err != nil {
		t.Fatal(err)
	}
	c2.others = map[string]*grpc.ClientConn{"c1:1": to}
	c1.members(t, "a")
	c2.members(t, "b", "c")
	stays := c2.raw(t)
	if _, err := stays.hello(&pb.Hello{Probe: "d", Instance: "1"}); err != nil {
		t.Fatal(err)
	}

	stream, err := c1.ctl.RunMesh(ctx, meshOn(80))
	if err != nil {
		t.Fatal(err)
	}
	var first, last *pb.RunMeshResponse
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = m
		}
		last = m
	}
	var want []string
	for _, name := range []string{"b", "c", "d"} {
		want = append(want, "probe "+name+" is connected to controller c2, and asked to come to c1")
	}
	if first.GetPhase() != 0 || !slices.Equal(first.GetTroubles(), want) {
		t.Errorf("before it starts one is told %v", first)
	}
	want = append(want, "probe d did not come from controller c2 within 3s, and takes no part")
	if last.GetPhase() != pb.MeshPhase_MESH_PHASE_DONE || last.GetProbes() != 3 || last.GetJoined() != 6 || !slices.Equal(last.GetTroubles(), want) {
		t.Errorf("it ended as %v", last)
	}
	if m := stays.next(); m.GetDrain() == nil || !slices.Equal(m.GetDrain().GetAlternates(), []string{"c1:1"}) {
		t.Errorf("d was told %v", m)
	}
	joined, _ := pairs(t, filepath.Join(filepath.Dir(c1.dir), "surveys", last.GetMesh()))
	if len(joined) != 6 {
		t.Errorf("joined %v", joined)
	}
	// Either controller knows of it, beside the surveys.
	if err := os.Mkdir(filepath.Join(filepath.Dir(c1.dir), "surveys", "of others"), 0o755); err != nil {
		t.Fatal(err)
	}
	id := c2.survey(t, 1, spec())
	listed, err := c2.ctl.ListSurveys(ctx, &pb.ListSurveysRequest{})
	if err != nil || len(listed.GetSurveys()) != 2 {
		t.Fatalf("%v, %v", listed, err)
	}
	mesh, survey := listed.GetSurveys()[0], listed.GetSurveys()[1]
	adds(t, mesh)
	if mesh.GetSurvey() != last.GetMesh() || mesh.GetPhase() != pb.SurveyPhase_SURVEY_PHASE_DONE || mesh.GetMeasured() != 6 || mesh.GetName() != "mesh of 3 probes" || survey.GetSurvey() != id {
		t.Errorf("listed are %v and %v", mesh, survey)
	}
	shown, err := c2.ctl.GetSurvey(ctx, &pb.GetSurveyRequest{Survey: last.GetMesh()})
	if err != nil || !proto.Equal(shown.GetState(), mesh) {
		t.Errorf("shown is %v, %v", shown, err)
	}
	if st := c2.watch(t, last.GetMesh(), ended); !proto.Equal(st, mesh) {
		t.Errorf("watched is %v", st)
	}
	if _, err := c2.ctl.GetSurvey(ctx, &pb.GetSurveyRequest{Survey: "of others"}); status.Code(err) != codes.NotFound {
		t.Errorf("a directory of others: %v", err)
	}
	// Nobody is asked twice, and who is here is not asked.
	c1.await(t, "all but d are here", func() bool {
		return c1.server.Connected("b") && c1.server.Connected("c") && !c2.server.Connected("b")
	})
}
