package dataset

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"tfofleet/internal/dataset/place"
)

// SchemaVersion is the version of the directory's layout and tables that this
// package writes. Readers refuse a higher one.
const SchemaVersion = 1

// State is where a survey stood when survey.json was last written. A killed
// survey stays StateRunning.
type State string

const (
	StateRunning     State = "running"
	StateInterrupted State = "interrupted" // ended in good order before it was complete; it can be resumed
	StateDone        State = "done"
	StateCancelled   State = "cancelled"
	StateFailed      State = "failed"
)

// Survey is the content of survey.json. The JSON names are stable.
type Survey struct {
	Schema  int       `json:"schema"` // set by the writer to SchemaVersion
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Mesh    bool      `json:"mesh,omitempty"` // of measurements between probes
	State   State     `json:"state"`
	Reason  string    `json:"reason,omitempty"` // why it failed
	Created time.Time `json:"created"`          // UTC
	Ended   time.Time `json:"ended,omitzero"`   // UTC; absent while it runs
	Spec    Spec      `json:"spec"`
	// Versions are those of the programs that took part, by name:
	// "controller", "go".
	Versions map[string]string `json:"versions"`
	Counts   Counts            `json:"counts"`
	Probes   []Probe           `json:"probes"`
}

// Spec is what the survey did to every target. It was frozen when the survey
// was created.
type Spec struct {
	Plan         string  `json:"plan"`                    // quick, standard, thorough
	Family       string  `json:"family"`                  // any, 4, 6
	Payload      string  `json:"payload"`                 // auto, http, tls, dns, bytes, none
	PayloadBytes []byte  `json:"payload_bytes,omitempty"` // base64; with payload "bytes"
	Seed         uint64  `json:"seed,string"`             // a string: JSON numbers end at 2^53
	Rate         float64 `json:"rate"`                    // new connections per second and probe; 0 = unlimited
	Concurrency  uint32  `json:"concurrency"`             // connections open at the same time and probe
	TimeoutUS    int64   `json:"timeout_us"`              // for the handshake, and again for the response
	HoldUS       int64   `json:"hold_us"`                 // rest between measurements of one address
	ChunkSize    int     `json:"chunk_size"`              // targets per chunk; the last chunk may hold fewer
}

// Counts holds every planned target once:
// planned = measured + refused + interrupted + cancelled + lost + pending.
type Counts struct {
	Planned     uint64 `json:"planned"`
	Measured    uint64 `json:"measured"`
	Refused     uint64 `json:"refused"`
	Interrupted uint64 `json:"interrupted"`
	Cancelled   uint64 `json:"cancelled"`
	Lost        uint64 `json:"lost"`
	Pending     uint64 `json:"pending"`
	// Verdicts counts the measured targets by verdict name.
	Verdicts map[string]uint64 `json:"verdicts,omitempty"`
}

// Probe is a vantage point and what it knew of its own kernel.
type Probe struct {
	Name              string `json:"name"`
	Version           string `json:"version"`
	Hostname          string `json:"hostname"`
	Kernel            string `json:"kernel"` // uname release
	Arch              string `json:"arch"`
	TCPFastOpen       *int   `json:"tcp_fastopen"`        // net.ipv4.tcp_fastopen, bits; null when unknown
	BlackholeTimeoutS *int   `json:"blackhole_timeout_s"` // net.ipv4.tcp_fastopen_blackhole_timeout_sec; null when unknown
	CanClearCookies   *bool  `json:"can_clear_cookies"`   // deleting from tcp_metrics is permitted; null when not tried
}

const surveyFile = "survey.json"

// ErrVersion is of a dataset that another version of the program wrote, which
// this one cannot read.
var ErrVersion = errors.New("another version of this program wrote it")

// ErrDamaged is of a survey.json that is none.
var ErrDamaged = errors.New("damaged")

// ReadSurvey reads DIR/survey.json. The error is fs.ErrNotExist when there is
// none, [ErrVersion] when it cannot be understood, and [ErrDamaged] when it
// cannot be parsed.
func ReadSurvey(dir string) (*Survey, error) {
	p, err := place.At(dir)
	if err != nil {
		return nil, err
	}
	b, err := p.Load(surveyFile, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is not a dataset: %w", dir, err)
	}
	if err != nil {
		return nil, err
	}
	path := p.Path(surveyFile)
	var s Survey
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, ErrDamaged, err)
	}
	if s.Schema < 1 || s.Schema > SchemaVersion {
		return nil, fmt.Errorf("%s: %w: schema version %d, this one reads 1 to %d", path, ErrVersion, s.Schema, SchemaVersion)
	}
	return &s, nil
}

// writeSurvey publishes survey.json with put: create or replace.
func writeSurvey(p place.Place, s *Survey, put func(f place.File, name string) error) error {
	c := *s
	c.Schema = SchemaVersion
	c.Created = c.Created.UTC()
	if !c.Ended.IsZero() {
		c.Ended = c.Ended.UTC()
	}
	// Lists are never null for a reader.
	if c.Probes == nil {
		c.Probes = []Probe{}
	}
	if c.Versions == nil {
		c.Versions = map[string]string{}
	}
	b, err := json.MarshalIndent(&c, "", "  ")
	if err != nil {
		return err
	}
	f, err := p.New("")
	if err != nil {
		return err
	}
	defer f.Discard()
	if _, err := f.Write(append(b, '\n')); err != nil {
		return err
	}
	if err := f.Finish(); err != nil {
		return err
	}
	return put(f, surveyFile)
}
