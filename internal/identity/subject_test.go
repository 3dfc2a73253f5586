package identity

import (
	"net/url"
	"strings"
	"testing"
)

func TestSubject(t *testing.T) {
	for uri, want := range map[string]Subject{
		"tfofleet://abc/probe/fra-1":     {"abc", KindProbe, "fra-1"},
		"tfofleet://a-1/operator/anna":   {"a-1", KindOperator, "anna"},
		"tfofleet://abc/controller":      {"abc", KindController, ""},
		"tfofleet://abc/probe/probe":     {"abc", KindProbe, "probe"},
		"tfofleet://0/operator/operator": {"0", KindOperator, "operator"},
	} {
		got, err := ParseSubject(uri)
		if err != nil || got != want || got.String() != uri {
			t.Errorf("%s: %+v, %v", uri, got, err)
		}
	}
	for _, uri := range []string{
		"", "tfofleet:", "tfofleet://", "tfofleet:///probe/x", "tfofleet://abc", "tfofleet://abc/", "tfofleet://abc/probe", "tfofleet://abc/probe/",
		"tfofleet://abc/probe/x/y", "tfofleet://abc/probe//x", "tfofleet://abc//probe/x", "tfofleet://abc/probe/x/", "tfofleet://abc/controller/", "tfofleet://abc/controller/x",
		"tfofleet://ABC/probe/x", "tfofleet://abc/Probe/x", "tfofleet://abc/probe/X", "TFOFLEET://abc/probe/x", "spiffe://abc/probe/x",
		"tfofleet://abc/probe/x?y", "tfofleet://abc/probe/x#y", "tfofleet://u@abc/probe/x", "tfofleet://abc:1/probe/x", "tfofleet://abc/probe/%78",
		"tfofleet://abc/probe/..", "tfofleet://abc/probe/x y", "tfofleet://abc/probe/-x", "tfofleet://abc/probe/x-", "tfofleet://abc/probe/\x00", "tfofleet://abc/spy/x",
		"tfofleet://abc/probe/" + strings.Repeat("a", 64), "tfofleet:abc/probe/x", " tfofleet://abc/probe/x",
	} {
		if s, err := ParseSubject(uri); err == nil {
			t.Errorf("%q is %+v", uri, s)
		}
	}
}

// FuzzParseSubject: a name has one spelling, and a URL parser reads the same
// from it.
func FuzzParseSubject(f *testing.F) {
	f.Add("tfofleet://abc/probe/fra-1")
	f.Add("tfofleet://abc/controller")
	f.Add("tfofleet://abc/operator/anna")
	f.Add("tfofleet://abc/probe/%2e%2e")
	f.Add("tfofleet://abc:1/probe/x?y#z")
	f.Fuzz(func(t *testing.T, uri string) {
		s, err := ParseSubject(uri)
		if err != nil {
			return
		}
		if s.String() != uri {
			t.Errorf("%q is written %q", uri, s)
		}
		u, err := url.Parse(uri)
		if err != nil || u.Host != s.Fleet || u.String() != uri || u.RawQuery+u.Fragment+u.RawPath != "" || u.User != nil {
			t.Errorf("%q is to a URL parser %v, %v", uri, u, err)
		}
		if !ValidName(s.Fleet) || (s.Name != "") != (s.Kind != KindController) {
			t.Errorf("%q is %+v", uri, s)
		}
	})
}

func TestLabels(t *testing.T) {
	l, err := ParseLabels("region=fra", "a.b_c-1=X.y_Z-2")
	if err != nil || l.String() != "a.b_c-1=X.y_Z-2,region=fra" {
		t.Errorf("%v, %v", l, err)
	}
	for _, bad := range [][]string{{""}, {"a"}, {"=b"}, {"a="}, {"A=b"}, {"a=b=c"}, {"a=b c"}, {"a=b,c"}, {"a=1", "a=2"}, {"ü=1"}, {"a=" + strings.Repeat("b", 64)}, make([]string, 33)} {
		if l, err := ParseLabels(bad...); err == nil {
			t.Errorf("%q is %v", bad, l)
		}
	}
}

func FuzzParseLabels(f *testing.F) {
	f.Add("region=fra", "a=b")
	f.Add("a=b=c", "")
	f.Fuzz(func(t *testing.T, a, b string) {
		l, err := ParseLabels(a, b)
		if err != nil {
			return
		}
		again, err := ParseLabels(strings.Split(l.String(), ",")...)
		if err != nil || again.String() != l.String() || len(l) != 2 {
			t.Errorf("%q, %q: %v, then %v, %v", a, b, l, again, err)
		}
	})
}
