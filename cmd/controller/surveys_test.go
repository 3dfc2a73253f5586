package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "tfofleet/proto/tfofleet/v1"
)

// called is what a command of the operator did.
type called struct {
	code     int
	out, err string
}

func (f *testFleet) call(ctx context.Context, stdin string, args ...string) called {
	var out, errs bytes.Buffer
	args = append([]string{"controller"}, append(args, "--controller", f.socket)...)
	code := run(ctx, args, strings.NewReader(stdin), &out, &errs)
	return called{code, strings.TrimSpace(out.String()), errs.String()}
}

// TestSurveyOfFleet: started and left, listed, watched and left again, and
// ended: leaving ends nothing.
func TestSurveyOfFleet(t *testing.T) {
	f := newTestFleet(t)
	made := f.call(t.Context(), "8.8.8.8:443\n8.8.4.4:443\n", "survey", "--targets", "-", "--detach")
	id := made.out
	if made.code != 0 || !strings.Contains(made.err, "surveys watch "+id) {
		t.Fatalf("%+v", made)
	}
	if got := f.call(t.Context(), "", "surveys", "list"); got.code != 0 || !strings.Contains(got.out, id) || !strings.Contains(got.out, "running") {
		t.Errorf("list: %+v", got)
	}
	if got := f.call(t.Context(), "", "surveys", "show", id); got.code != 0 || !strings.Contains(got.out, "no probe is connected") {
		t.Errorf("show: %+v", got)
	}
	if got := f.call(t.Context(), "", "surveys", "pause", id); got.code != 0 {
		t.Errorf("pause: %+v", got)
	}
	if got := f.call(t.Context(), "", "surveys", "list"); got.code != 0 || !strings.Contains(got.out, "paused") {
		t.Errorf("list: %+v", got)
	}
	if got := f.call(t.Context(), "", "surveys", "resume", id); got.code != 0 {
		t.Errorf("resume: %+v", got)
	}
	st, err := f.control.GetSurvey(t.Context(), &pb.GetSurveyRequest{Survey: id})
	if err != nil || st.GetState().GetPending() != 2 {
		t.Errorf("%v, %v", st, err)
	}

	ctx, interrupt := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, interrupt)
	if got := f.call(ctx, "", "surveys", "watch", id); got.code != int(exitInterrupted) || !strings.Contains(got.err, "survey "+id+" goes on") || !strings.Contains(got.err, "surveys cancel "+id) {
		t.Errorf("interrupted: %+v", got)
	}
	if got := f.call(t.Context(), "", "surveys", "cancel", id); got.code != 0 {
		t.Errorf("cancel: %+v", got)
	}
	got := f.call(t.Context(), "", "surveys", "watch", id, "--quiet", "--format", "json")
	var s struct {
		Phase, Cancelled string
	}
	if err := json.Unmarshal([]byte(got.out), &s); err != nil || s.Phase != "SURVEY_PHASE_CANCELLED" || s.Cancelled != "2" {
		t.Errorf("%v: %+v", err, got)
	}
}

// TestOperatorMistakes: each says what to do.
func TestOperatorMistakes(t *testing.T) {
	f := newTestFleet(t)
	list := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, []byte("8.8.8.8\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code exitCode
		want string
	}{
		{[]string{"surveys", "show", "none"}, exitFailure, "not found"},
		{[]string{"surveys", "show", "none"}, exitFailure, `hint: "controller surveys list"`},
		{[]string{"surveys", "show", ""}, exitUsage, "got an empty one"},
		{[]string{"report", "k3ozxw2mdpqra"}, exitFailure, `hint: "controller surveys list" tells what there is; --controller`},
		{[]string{"probes", "show", "foo"}, exitFailure, `hint: "controller probes list"`},
		{[]string{"probes", "drain", "foo"}, exitFailure, `hint: "controller probes list"`},
		{[]string{"probes", "limit", "foo", "--rate", "1"}, exitFailure, `hint: "controller probes list"`},
		{[]string{"probes", "limit", "p", "--rate", "-3"}, exitUsage, "rate -3"},
		{[]string{"token", "revoke", "none"}, exitFailure, `hint: "controller token list"`},
		{[]string{"token", "create", "--uses", "0"}, exitUsage, "at least one use"},
		{[]string{"token", "create", "--ttl", "0"}, exitUsage, `hint: "controller token create --help"`},
		{[]string{"token", "create", "--prefix", "A b"}, exitUsage, "cannot begin"},
		{[]string{"token", "create", "--address", "foo"}, exitUsage, "is not host:port"},
		{[]string{"operator", "create", "a b", "--out", filepath.Join(t.TempDir(), "o")}, exitUsage, "cannot be an operator's name"},
		{[]string{"survey", "--targets", list, "--quiet", "--probes", "nobody"}, exitUsage, `hint: "controller probes list"`},
		{[]string{"survey", "--targets", list, "--quiet", "--mode", "9"}, exitUsage, `hint: "controller probes list"`},
		{[]string{"mesh"}, exitFailure, `hint: "controller probes list"`},
		{[]string{"survey", "--targets", list, "--mode", "some"}, exitUsage, `hint: "controller survey --help"`},
		{[]string{"surveys", "show"}, exitUsage, "takes one survey's id"},
		{[]string{"probes", "ban", "p"}, exitUsage, "--reason TEXT"},
		{[]string{"probes", "ban", "p", "--reason", "x"}, exitFailure, "not found"},
		{[]string{"token", "revoke", "none"}, exitFailure, "not found"},
		{[]string{"token", "create", "--label", "x"}, exitUsage, "x"},
		{[]string{"survey"}, exitUsage, "--targets FILE"},
		{[]string{"survey", "--lab"}, exitUsage, "leave out --controller"},
		{[]string{"survey", "--targets", "-"}, exitEmptyList, "holds no target"},
	} {
		if got := f.call(t.Context(), "", c.args...); got.code != int(c.code) || !strings.Contains(got.err, c.want) || got.out != "" {
			t.Errorf("%q: %+v", c.args, got)
		}
	}
	f.socket = filepath.Join(t.TempDir(), "s")
	if got := f.call(t.Context(), "", "probes", "list"); got.code != int(exitFailure) || !strings.Contains(got.err, "controller serve starts one") {
		t.Errorf("nobody there: %+v", got)
	}
	f.socket = "controller.example.net:7443"
	if got := f.call(t.Context(), "", "probes", "list"); got.code != int(exitUsage) || !strings.Contains(got.err, "is neither a socket nor a credential") {
		t.Errorf("a remote controller: %+v", got)
	}
}

// TestUnanswered: why no controller was reached decides what to do about it.
func TestUnanswered(t *testing.T) {
	for why, want := range map[string]string{
		"dial unix s: connect: connection refused":                                                "controller serve starts one",
		"dial unix s: connect: permission denied":                                                 "be the user",
		"authentication handshake failed: tls: failed to verify certificate: x509: any":           "operator create",
		"authentication handshake failed: the certificate is not one of this fleet's controllers": "operator create",
	} {
		end := unanswered("s", why)
		if end.code != exitFailure || !strings.Contains(end.hints[0], want) || !strings.Contains(end.Error(), why) {
			t.Errorf("%s: %v, %q", why, end, end.hints)
		}
	}
}
