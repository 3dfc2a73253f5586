package controller

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	pb "tfofleet/proto/tfofleet/v1"
)

// section is a part of docs/fleet.md, and names the first cells of its tables.
func section(t *testing.T, title string) (names []string) {
	t.Helper()
	b, err := os.ReadFile("../../docs/fleet.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(b), "\n## "+title+"\n")
	if !ok {
		t.Fatalf("docs/fleet.md has no section %q", title)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	return names
}

// recorder takes the collectors that are registered.
type recorder struct {
	prometheus.Registerer
	names []string
}

var descName = regexp.MustCompile(`fqName: "([^"]+)"`)

func (r *recorder) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		descs := make(chan *prometheus.Desc)
		go func() {
			c.Describe(descs)
			close(descs)
		}()
		for d := range descs {
			r.names = append(r.names, descName.FindStringSubmatch(d.String())[1])
		}
	}
}

// The document lists every metric there is, and no other.
func TestDocumentedMetrics(t *testing.T) {
	r := &recorder{}
	newMetrics(r, &Server{})
	slices.Sort(r.names)
	if listed := section(t, "Metrics"); !slices.Equal(listed, r.names) {
		t.Errorf("docs/fleet.md lists %q\nwant %q", listed, r.names)
	}
}

// The document explains every readiness that a probe can have.
func TestDocumentedReadiness(t *testing.T) {
	var want []string
	for n := range pb.Readiness_name {
		if r := pb.Readiness(n); r != pb.Readiness_READINESS_UNSPECIFIED {
			want = append(want, readinessName(r))
		}
	}
	slices.Sort(want)
	if listed := section(t, "Is a probe ready?"); !slices.Equal(listed, want) {
		t.Errorf("docs/fleet.md lists %q\nwant %q", listed, want)
	}
}

// The document explains every outcome of a target.
func TestDocumentedOutcomes(t *testing.T) {
	var want []string
	for _, name := range outcomeNames {
		want = append(want, name)
	}
	slices.Sort(want)
	if listed := section(t, "Surveys"); !slices.Equal(listed, want) {
		t.Errorf("docs/fleet.md lists %q\nwant %q", listed, want)
	}
}
