package dashboard

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "tfofleet/proto/tfofleet/v1"
)

const (
	// quiet is how long nothing is sent at most, so that who listens, and
	// whatever is between, knows that we are there.
	quiet = 15 * time.Second
	// stuck is how long a reader may leave us waiting.
	stuck = 30 * time.Second
)

// stream is a page's server-sent events (WHATWG HTML, section 9.2). An event
// that says what the last of its name said is not sent.
type stream struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	sent map[string][]byte
	last time.Time
}

// envelope is the data of every event.
type envelope struct {
	Now   time.Time       `json:"now"` // the controller's clock, for what is said to be so long ago
	State json.RawMessage `json:"state"`
}

func (s *stream) send(name string, state any) error {
	raw, err := json.Marshal(state)
	if err != nil {
		return err
	}
	if bytes.Equal(s.sent[name], raw) {
		return nil
	}
	s.sent[name] = raw
	data, err := json.Marshal(envelope{time.Now().UTC(), raw})
	if err != nil {
		return err
	}
	return s.write("event: %s\ndata: %s\n\n", name, data)
}

func (s *stream) write(format string, args ...any) error {
	s.last = time.Now()
	// A server without deadlines says so, and that is well.
	if err := s.rc.SetWriteDeadline(s.last.Add(stuck)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := fmt.Fprintf(s.w, format, args...); err != nil {
		return err
	}
	return s.rc.Flush()
}

// events tells a page of all surveys and probes, and of the one survey or probe
// that it shows, until it goes away or may not know any more.
func (d *dashboard) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	s := &stream{w: w, rc: http.NewResponseController(w), sent: map[string][]byte{}}
	if err := s.write("retry: 2000\n\n"); err != nil || r.Method == http.MethodHead {
		return
	}
	ctx, stop := context.WithCancel(r.Context())
	defer stop()
	watched := make(chan *pb.SurveyState, 1)
	if id := r.URL.Query().Get("survey"); id != "" {
		go d.watch(ctx, id, watched)
	}
	tick := time.NewTicker(d.Every)
	defer tick.Stop()
	for {
		if err := d.round(ctx, s, r.URL.Query().Get("probe")); err != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case state := <-watched:
			if s.send("survey", viewSurvey(state)) != nil {
				return
			}
		case <-tick.C:
		}
	}
}

// round asks about everything once. Its error is of the stream, or says that
// asking again is of no use.
func (d *dashboard) round(ctx context.Context, s *stream, probe string) error {
	err := d.ask(ctx, s, probe)
	switch code := status.Code(err); {
	case err == nil:
		err = s.send("trouble", "")
	case code == codes.PermissionDenied || code == codes.Unauthenticated:
		s.send("trouble", "You are not an operator any more.")
		return err
	case code == codes.Unknown || ctx.Err() != nil:
		return err // of the stream
	default:
		err = s.send("trouble", "The controller does not answer: "+status.Convert(err).Message())
	}
	if err == nil && time.Since(s.last) > quiet {
		err = s.write(": still here\n\n")
	}
	return err
}

func (d *dashboard) ask(ctx context.Context, s *stream, probe string) error {
	surveys, err := d.Control.ListSurveys(ctx, &pb.ListSurveysRequest{})
	if err != nil {
		return err
	}
	sv := make([]surveyView, 0, len(surveys.GetSurveys()))
	for _, v := range surveys.GetSurveys() {
		sv = append(sv, viewSurvey(v))
	}
	probes, err := d.Control.ListProbes(ctx, &pb.ListProbesRequest{})
	if err != nil {
		return err
	}
	pv := make([]probeView, 0, len(probes.GetProbes()))
	for _, v := range probes.GetProbes() {
		pv = append(pv, viewProbe(v))
	}
	if err := s.send("surveys", sv); err != nil {
		return err
	}
	if err := s.send("probes", pv); err != nil {
		return err
	}
	if probe == "" {
		return nil
	}
	one, err := d.Control.GetProbe(ctx, &pb.GetProbeRequest{Probe: probe})
	if status.Code(err) == codes.NotFound {
		return s.send("probe", nil)
	}
	if err != nil {
		return err
	}
	return s.send("probe", viewProbe(one.GetProbe()))
}

// watch passes on a survey's states, the newest where the page is slow. When
// the call breaks off it is made again.
func (d *dashboard) watch(ctx context.Context, id string, to chan *pb.SurveyState) {
	for ctx.Err() == nil {
		err := d.watchOnce(ctx, id, to)
		if err == nil || status.Code(err) == codes.NotFound || status.Code(err) == codes.PermissionDenied {
			return // it has ended; the round tells of the rest
		}
		select {
		case <-ctx.Done():
		case <-time.After(d.Every):
		}
	}
}

// watchOnce is nil when the survey has ended.
func (d *dashboard) watchOnce(ctx context.Context, id string, to chan *pb.SurveyState) error {
	call, err := d.Control.WatchSurvey(ctx, &pb.WatchSurveyRequest{Survey: id})
	if err != nil {
		return err
	}
	for {
		resp, err := call.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-to: // nobody took it yet
		default:
		}
		to <- resp.GetState()
	}
}
