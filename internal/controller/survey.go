package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tfofleet/internal/dataset"
	"tfofleet/internal/lease"
	"tfofleet/internal/measure"
	"tfofleet/internal/store"
	pb "tfofleet/proto/tfofleet/v1"
)

// survey is one that has not ended: its record and its open files.
type survey struct {
	rec     store.Survey // as it was started; phase and reason are the store's to tell
	targets *dataset.Targets
	writer  *dataset.Writer
	changed signal
	ended   chan struct{} // closed when it has
	probes  sync.Map      // names that survey.json has, or will have soon
	stale   atomic.Bool   // survey.json is to be written anew
	// putting keeps an older survey.json from replacing a newer one.
	putting sync.Mutex
	final   bool // guarded by putting: survey.json says that it has ended
	settled bool // guarded by putting: the controller ends in good order
	paused  atomic.Bool

	cancelled atomic.Bool // and all of its chunks were told

	asking  sync.Mutex
	asked   time.Time
	missing []string // probes that it waits for, as of asked
}

func (v *survey) close() {
	if v.targets != nil {
		v.targets.Close()
	}
}

// start opens a survey's dataset, and makes it where that was left undone.
func (s *Server) start(ctx context.Context, rec store.Survey) (*survey, error) {
	s.starting.Lock()
	defer s.starting.Unlock()
	if v, ok := s.running(rec.ID); ok {
		return v, nil
	}
	dir := s.cfg.Dataset(rec.ID)
	v := &survey{rec: rec, ended: make(chan struct{})}
	var err error
	if rec.Phase == store.Creating {
		if err = dataset.CopyTargets(s.listDir(rec.List.ID), dir); err != nil {
			return nil, err
		}
		if v.writer, err = s.createDataset(ctx, dir, rec); err != nil {
			return nil, err
		}
		if v.rec, err = s.cfg.Store.SetPhase(ctx, rec.ID, store.Running, ""); err != nil {
			return nil, err
		}
	} else if v.writer, err = dataset.Open(dir); err != nil {
		return nil, err
	}
	if v.targets, err = dataset.OpenTargets(dir); err != nil {
		return nil, err
	}
	if v.targets.Len() != rec.List.Targets || v.targets.ChunkSize() != rec.List.ChunkSize {
		v.close()
		return nil, fmt.Errorf("%s holds %d targets in chunks of %d, not the %d in chunks of %d that were frozen",
			dir, v.targets.Len(), v.targets.ChunkSize(), rec.List.Targets, rec.List.ChunkSize)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.surveys[rec.ID] = v
	return v, nil
}

// createDataset writes the first survey.json, or finds the one it wrote before
// a crash.
func (s *Server) createDataset(ctx context.Context, dir string, rec store.Survey) (*dataset.Writer, error) {
	doc, err := s.document(ctx, rec)
	if err != nil {
		return nil, err
	}
	w, err := dataset.Create(dir, doc)
	if errors.Is(err, fs.ErrExist) {
		if had, readErr := dataset.ReadSurvey(dir); readErr == nil && had.ID == rec.ID {
			return dataset.Open(dir)
		}
	}
	return w, err
}

// find is a survey that has not ended, also one that another controller started.
func (s *Server) find(id string) (*survey, error) {
	if v, ok := s.running(id); ok {
		return v, nil
	}
	rec, err := s.cfg.Store.Survey(s.ctx, id)
	if err != nil {
		return nil, err
	}
	if rec.Phase >= store.Done {
		return nil, fmt.Errorf("survey %s is over", id)
	}
	return s.start(s.ctx, rec)
}

// all are the surveys that have not ended.
func (s *Server) all() []*survey {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.surveys))
}

// running is a survey that has not ended, as far as it is known here.
func (s *Server) running(id string) (*survey, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.surveys[id]
	return v, ok
}

// end closes a survey when its last chunk is written.
func (s *Server) end(ctx context.Context, v *survey) error {
	rec, err := s.cfg.Store.Survey(ctx, v.rec.ID)
	if err != nil {
		return err
	}
	phase := store.Done
	if rec.Cancel {
		phase = store.Cancelled
	}
	// survey.json first: a crash in between is made good at the next start.
	rec.Phase, rec.Ended = phase, s.cfg.Now()
	if err := s.putSurvey(ctx, v, rec); err != nil {
		return err
	}
	if _, err := s.cfg.Store.SetPhase(ctx, rec.ID, phase, ""); err != nil {
		return err
	}
	if s.cfg.Shared {
		// Another controller may have put an older one over it. From now on none
		// does: who has put it looks whether the survey has ended since.
		if err := s.putSurvey(ctx, v, rec); err != nil {
			return err
		}
	}
	s.forget(v)
	return nil
}

// fail ends a survey that cannot go on.
func (s *Server) fail(v *survey, reason error) {
	s.log.Error("survey failed", "survey", v.rec.ID, "reason", reason)
	rec, err := s.cfg.Store.SetPhase(s.ctx, v.rec.ID, store.Failed, reason.Error())
	if err != nil {
		s.trouble.failed(writeDataset, err)
		return
	}
	s.trouble.set(writeDataset, s.putSurvey(s.ctx, v, rec))
	s.forget(v)
}

func (s *Server) forget(v *survey) {
	s.mu.Lock()
	_, was := s.surveys[v.rec.ID]
	delete(s.surveys, v.rec.ID)
	s.mu.Unlock()
	if was {
		close(v.ended)
		v.close()
	}
}

// putSurvey writes survey.json as the store has it now. Once it says that the
// survey has ended it does not say again that it runs: whoever read the record
// before the end comes too late.
func (s *Server) putSurvey(ctx context.Context, v *survey, rec store.Survey) error {
	v.putting.Lock()
	defer v.putting.Unlock()
	ended := rec.Phase >= store.Done
	if v.final && !ended {
		return nil
	}
	doc, err := s.document(ctx, rec)
	if err != nil {
		return err
	}
	if v.settled && doc.State == dataset.StateRunning {
		doc.State = dataset.StateInterrupted
	}
	if err := v.writer.PutSurvey(doc); err != nil {
		return err
	}
	v.final = ended
	return nil
}

// document is the content of survey.json.
func (s *Server) document(ctx context.Context, rec store.Survey) (*dataset.Survey, error) {
	tally, err := s.cfg.Store.Tally(ctx, rec.ID)
	if err != nil {
		return nil, err
	}
	probes, err := s.cfg.Store.Probes(ctx, rec.ID)
	if err != nil {
		return nil, err
	}
	spec := rec.Spec
	doc := &dataset.Survey{
		ID: rec.ID, Name: rec.Name, Created: rec.Created, Ended: rec.Ended, Reason: rec.Reason,
		State: map[store.Phase]dataset.State{
			store.Creating: dataset.StateRunning, store.Running: dataset.StateRunning,
			store.Done: dataset.StateDone, store.Cancelled: dataset.StateCancelled, store.Failed: dataset.StateFailed,
		}[rec.Phase],
		Spec: dataset.Spec{
			Plan:         measure.Plan(spec.GetPlan()).String(),
			Family:       familyNames[spec.GetFamily()],
			Payload:      payloadNames[spec.GetPayload()],
			PayloadBytes: spec.GetPayloadBytes(),
			Seed:         spec.GetSeed(),
			Rate:         spec.GetRate(),
			Concurrency:  spec.GetConcurrency(),
			TimeoutUS:    spec.GetTimeout().AsDuration().Microseconds(),
			HoldUS:       spec.GetHold().AsDuration().Microseconds(),
			ChunkSize:    rec.List.ChunkSize,
		},
		Versions: map[string]string{"controller": s.cfg.Version, "go": runtime.Version()},
		Counts: dataset.Counts{
			Planned:     uint64(tally.Total()),
			Measured:    uint64(tally.Of(lease.Measured)),
			Refused:     uint64(tally.Of(lease.Refused)),
			Interrupted: uint64(tally.Of(lease.Interrupted)),
			Cancelled:   uint64(tally.Of(lease.Cancelled)),
			Lost:        uint64(tally.Of(lease.Lost)),
			Pending:     uint64(tally.Of(lease.Unfinished)),
			Verdicts:    make(map[string]uint64),
		},
		Probes: []dataset.Probe{},
	}
	for v := range measure.Verdict(lease.MaxVerdict + 1) {
		if n := tally[lease.Result(lease.Measured, v)]; n != 0 {
			doc.Counts.Verdicts[v.String()] += uint64(n)
		}
	}
	for _, p := range probes {
		doc.Probes = append(doc.Probes, probeDocument(p.Name, p.Version, p.Host))
	}
	return doc, nil
}

func probeDocument(name, version string, host *pb.Host) dataset.Probe {
	return dataset.Probe{
		Name: name, Version: version, Hostname: host.GetHostname(), Kernel: host.GetKernel(), Arch: host.GetArch(),
		TCPFastOpen: known(host.GetTcpFastopen()), BlackholeTimeoutS: known(host.GetBlackholeTimeoutS()),
		CanClearCookies: answered(host.GetCanClearCookies()),
	}
}

var (
	familyNames  = map[pb.Family]string{pb.Family_FAMILY_ANY: "any", pb.Family_FAMILY_IPV4: "4", pb.Family_FAMILY_IPV6: "6"}
	payloadNames = map[pb.Payload]string{
		pb.Payload_PAYLOAD_AUTO: "auto", pb.Payload_PAYLOAD_HTTP: "http", pb.Payload_PAYLOAD_TLS: "tls",
		pb.Payload_PAYLOAD_DNS: "dns", pb.Payload_PAYLOAD_BYTES: "bytes", pb.Payload_PAYLOAD_NONE: "none",
	}
)

func known(v int32) *int {
	if v < 0 {
		return nil
	}
	n := int(v)
	return &n
}

func answered(t pb.Tri) *bool {
	if t != pb.Tri_TRI_YES && t != pb.Tri_TRI_NO {
		return nil
	}
	yes := t == pb.Tri_TRI_YES
	return &yes
}

// maxMissing is how many names an operator is told of probes that are waited
// for.
const maxMissing = 10

// state is what operators see.
func (s *Server) state(ctx context.Context, id string) (*pb.SurveyState, error) {
	rec, err := s.cfg.Store.Survey(ctx, id)
	if err != nil {
		return nil, err
	}
	tally, err := s.cfg.Store.Tally(ctx, id)
	if err != nil {
		return nil, err
	}
	now := s.cfg.Now()
	if !rec.Ended.IsZero() {
		now = rec.Ended
	}
	st := &pb.SurveyState{
		Survey: id, Name: rec.Name, Reason: rec.Reason,
		Phase: map[store.Phase]pb.SurveyPhase{
			store.Creating: pb.SurveyPhase_SURVEY_PHASE_RUNNING, store.Running: pb.SurveyPhase_SURVEY_PHASE_RUNNING,
			store.Done: pb.SurveyPhase_SURVEY_PHASE_DONE, store.Cancelled: pb.SurveyPhase_SURVEY_PHASE_CANCELLED,
			store.Failed: pb.SurveyPhase_SURVEY_PHASE_FAILED,
		}[rec.Phase],
		Planned:     uint64(tally.Total()),
		Measured:    uint64(tally.Of(lease.Measured)),
		Refused:     uint64(tally.Of(lease.Refused)),
		Interrupted: uint64(tally.Of(lease.Interrupted)),
		Cancelled:   uint64(tally.Of(lease.Cancelled)),
		Lost:        uint64(tally.Of(lease.Lost)),
		Pending:     uint64(tally.Of(lease.Unfinished)),
		Created:     timestamppb.New(rec.Created),
		Elapsed:     durationpb.New(now.Sub(rec.Created)),
	}
	for i, n := range tally {
		if item := lease.Item(i); n > 0 && item.Outcome() != lease.Unfinished && item.Outcome() <= lease.Interrupted {
			st.Counts = append(st.Counts, &pb.VerdictCount{Outcome: pb.Outcome(item.Outcome()), Verdict: pb.Verdict(item.Verdict()), Count: uint64(n)})
		}
	}
	st.Paused, st.Mode, st.Copies, st.Probes = rec.Paused, pb.SurveyMode(rec.Mode), uint32(rec.Copies), rec.Probes
	if rec.Phase < store.Done {
		st.Stalled = cmp.Or(s.trouble.reason(), s.deserted())
		if len(rec.Probes) > 0 {
			if st.Missing, err = s.missing(ctx, id); err != nil {
				return nil, err
			}
		}
	}
	return st, nil
}

// deserted says that there is no probe at all.
func (s *Server) deserted() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cfg.Authority == nil || len(s.sessions)+s.elsewhere > 0 {
		return "" // the probe of a server for its own process is about to connect
	}
	return "no probe is connected"
}

// missingEvery is how often the store is asked who is waited for: it looks at
// every chunk that is left.
const missingEvery = 5 * time.Second

// missing are the probes that a survey waits for, as they were a moment ago.
func (s *Server) missing(ctx context.Context, id string) ([]string, error) {
	v, ok := s.running(id)
	if !ok {
		return nil, nil
	}
	v.asking.Lock()
	defer v.asking.Unlock()
	if now := s.cfg.Now(); now.Sub(v.asked) >= missingEvery {
		missing, err := s.cfg.Store.Missing(ctx, id, maxMissing)
		if err != nil {
			return nil, err
		}
		v.asked, v.missing = now, missing
	}
	return v.missing, nil
}

func (s *Server) notify(id string) {
	if v, ok := s.running(id); ok {
		v.changed.notify()
	}
}

func (s *Server) notifyAll() {
	s.work.notify()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.surveys {
		v.changed.notify()
	}
}

// enlist has a probe named in survey.json when it takes part for the first time.
// A moment later: with a thousand of them the file is not written a thousand
// times, and no lease waits for it.
func (s *Server) enlist(v *survey, probe string) {
	if _, had := v.probes.LoadOrStore(probe, true); !had {
		v.stale.Store(true)
	}
}

// refresh writes survey.json anew. Where it has ended in between, at another
// controller, that is what the file has to say; and when it has ended, all that
// came late.
func (s *Server) refresh(v *survey) error {
	for {
		rec, err := s.cfg.Store.Survey(s.ctx, v.rec.ID)
		if err != nil {
			return err
		}
		counted, err := s.cfg.Store.Tally(s.ctx, v.rec.ID)
		if err != nil {
			return err
		}
		if err := s.putSurvey(s.ctx, v, rec); err != nil {
			return err
		}
		now, err := s.cfg.Store.Survey(s.ctx, v.rec.ID)
		if err != nil {
			return err
		}
		countedNow, err := s.cfg.Store.Tally(s.ctx, v.rec.ID)
		if err != nil || now.Phase == rec.Phase && (now.Phase < store.Done || countedNow == counted) {
			return err
		}
	}
}
