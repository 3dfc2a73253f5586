package place

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"testing"

	"tfofleet/internal/dataset/place/s3test"
)

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// small makes an upload go in parts.
func small(f named) named {
	f.File.(*upload).onePut, f.File.(*upload).part = 6<<20, 5<<20
	return f
}

// once breaks the first request that matches.
func once(match func(*http.Request) bool, f s3test.Fault) func(*http.Request) s3test.Fault {
	return times(1, match, f)
}

func times(n int, match func(*http.Request) bool, f s3test.Fault) func(*http.Request) s3test.Fault {
	return func(r *http.Request) s3test.Fault {
		if n == 0 || !match(r) {
			return s3test.Fault{}
		}
		n--
		return f
	}
}

func method(m string) func(*http.Request) bool {
	return func(r *http.Request) bool { return r.Method == m }
}

// A busy store, a broken wire and a lost answer are got over; what is there in
// the end is whole, and ours.
func TestFaultsThatPass(t *testing.T) {
	s := s3test.Start(t)
	p := at(t, s.URL("faults"))
	big := random(11 << 20)
	completion := func(r *http.Request) bool { return r.Method == http.MethodPost && r.URL.Query().Has("uploadId") }
	part := func(r *http.Request) bool {
		return r.Method == http.MethodPut && r.URL.Query().Get("partNumber") == "2"
	}
	for _, c := range []struct {
		name  string
		size  int
		fault func(*http.Request) s3test.Fault
	}{
		{"slow down", 100, times(3, method(http.MethodPut), s3test.Fault{Status: 503, Code: "SlowDown"})},
		{"internal error", 100, once(method(http.MethodPut), s3test.Fault{Status: 500, Code: "InternalError"})},
		{"conflict", 100, once(method(http.MethodPut), s3test.Fault{Status: 409, Code: "ConditionalRequestConflict"})},
		{"cut upload", 3 << 20, once(method(http.MethodPut), s3test.Fault{CutUpload: 1 << 20})},
		{"lost answer", 100, once(method(http.MethodPut), s3test.Fault{LoseResponse: true})},
		{"cut part", len(big), once(part, s3test.Fault{CutUpload: 1 << 20})},
		{"lost part", len(big), once(part, s3test.Fault{LoseResponse: true})},
		{"busy at the completion", len(big), once(completion, s3test.Fault{Status: 503, Code: "SlowDown"})},
		{"lost completion", len(big), once(completion, s3test.Fault{LoseResponse: true})},
		{"cut download", 3 << 20, times(3, method(http.MethodGet), s3test.Fault{CutDownload: 700 << 10})},
		{"busy download", 100, times(2, method(http.MethodGet), s3test.Fault{Status: 503, Code: "SlowDown"})},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := strings.ReplaceAll(c.name, " ", "-")
			f := small(written(t, p, name, big[:c.size]))
			defer f.Discard()
			s.Break(c.fault)
			defer s.Break(nil)
			if err := f.Create(); err != nil {
				t.Fatal(err)
			}
			if got := content(t, p, name); got != string(big[:c.size]) {
				t.Fatalf("%d bytes are not the %d written", len(got), c.size)
			}
			again := small(written(t, p, name, big[:c.size]))
			defer again.Discard()
			if err := again.Create(); !errors.Is(err, fs.ErrExist) {
				t.Errorf("create again: %v", err)
			}
		})
	}
}

// A store that refuses a taken name before it has read everything closes the
// connection on who still sends: no answer comes, and the name is taken all the
// same, by another or by this very writing.
func TestTakenWithoutAnswer(t *testing.T) {
	s := s3test.Start(t)
	p := at(t, s.URL("taken"))
	content := random(3 << 20)
	f := small(written(t, p, "other", content))
	defer f.Discard()
	if err := f.Create(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		fault s3test.Fault
		want  error
	}{
		"other": {s3test.Fault{CutUpload: 1 << 20}, fs.ErrExist},
		"own":   {s3test.Fault{LoseResponse: true}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they take the library's time
			f := small(written(t, p, name, content))
			defer f.Discard()
			s.BreakName(name, times(-1, method(http.MethodPut), c.fault))
			if err := f.Create(); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// What does not pass is told, with its reason; nothing is visible of a file
// that could not be sent, and no part of it is left.
func TestFaultsThatStay(t *testing.T) {
	s := s3test.Start(t)
	p := at(t, s.URL("faults"))
	put := method(http.MethodPut)
	all := func(f s3test.Fault, match func(*http.Request) bool) func(*http.Request) s3test.Fault {
		return times(-1, match, f)
	}
	for _, c := range []struct {
		name, want string
		size       int
		fault      func(*http.Request) s3test.Fault
	}{
		{"denied", "AccessDenied: by the test (status 403", 100, all(s3test.Fault{Status: 403, Code: "AccessDenied"}, put)},
		{"no quota", "QuotaExceeded", 100, all(s3test.Fault{Status: 400, Code: "QuotaExceeded"}, put)},
		{"denied part", "AccessDenied", 11 << 20, all(s3test.Fault{Status: 403, Code: "AccessDenied"}, func(r *http.Request) bool { return r.URL.Query().Get("partNumber") == "3" })},
		{"always cut", `Put "http`, 3 << 20, all(s3test.Fault{CutUpload: 1 << 20}, put)},
		{"always busy", "SlowDown", 100, all(s3test.Fault{Status: 503, Code: "SlowDown"}, put)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // the last two take the library's time
			name := strings.ReplaceAll(c.name, " ", "-")
			f := small(written(t, p, name, random(c.size)))
			defer f.Discard()
			s.BreakName(name, c.fault)
			err := f.Create()
			if err == nil || errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), p.Path(name)) {
				t.Errorf("%v, want %q", err, c.want)
			}
			s.BreakName(name, nil)
			if have, err := p.Has(name); have || err != nil {
				t.Errorf("it is there: %v, %v", have, err)
			}
			b := p.(*bucket)
			for u := range b.core.ListIncompleteUploads(t.Context(), b.name, b.key(name), true) {
				t.Errorf("left: %+v", u)
			}
			if err := f.Create(); err != nil {
				t.Errorf("when it is over: %v", err)
			}
		})
	}
}

// An object that is replaced in the middle of a download is no mixture.
func TestReplacedWhileRead(t *testing.T) {
	s := s3test.Start(t)
	p := at(t, s.URL("x"))
	if err := written(t, p, "a", random(3<<20)).Replace(); err != nil {
		t.Fatal(err)
	}
	d := &download{b: p.(*bucket), name: "a"}
	defer d.close()
	s.Break(once(method(http.MethodGet), s3test.Fault{CutDownload: 1 << 20}))
	if err := d.begin(); err != nil {
		t.Fatal(err)
	}
	if err := d.read(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := written(t, p, "a", bytes.Repeat([]byte("x"), 3<<20)).Replace(); err != nil {
		t.Fatal(err)
	}
	if err := d.read(make([]byte, 2<<20)); err == nil || !strings.Contains(err.Error(), "was replaced") {
		t.Errorf("%v", err)
	}
}

// A small file is one request, a larger one too.
func TestOneGet(t *testing.T) {
	s := s3test.Start(t)
	p := at(t, s.URL("x"))
	for _, size := range []int{100, inMemory + 100} {
		if err := written(t, p, "a", random(size)).Replace(); err != nil {
			t.Fatal(err)
		}
		before := s.Requests(http.MethodGet)
		src, err := p.Open("a")
		if err != nil {
			t.Fatal(err)
		}
		for at := int64(0); at < src.Size()-10; at += src.Size() / 7 {
			if _, err := src.ReadAt(make([]byte, 10), at); err != nil {
				t.Fatal(err)
			}
		}
		src.Close()
		if n := s.Requests(http.MethodGet) - before; n != 1 {
			t.Errorf("%d bytes in %d requests", size, n)
		}
	}
}

// No error and no place tells a key.
func TestSecretsStaySecret(t *testing.T) {
	s := s3test.Start(t)
	t.Setenv("AWS_SECRET_ACCESS_KEY", "not/the+right/one")
	stores.by = nil // the credentials of the process have changed
	defer func() { stores.by = nil }()
	p, err := At(s.URL("x"))
	if err != nil {
		t.Fatal(err)
	}
	err = p.Prepare()
	if err == nil || !strings.Contains(err.Error(), s3test.Bucket) || !strings.Contains(err.Error(), "status 403") {
		t.Errorf("a wrong key: %v", err)
	}
	for _, secret := range []string{os.Getenv("AWS_SECRET_ACCESS_KEY"), os.Getenv("AWS_ACCESS_KEY_ID"), "Signature"} {
		if strings.Contains(err.Error(), secret) || strings.Contains(p.Path("x"), secret) {
			t.Errorf("%v tells %q", err, secret)
		}
	}
}

func TestNoBucket(t *testing.T) {
	s := s3test.Start(t)
	p, err := At(strings.Replace(s.URL("x"), s3test.Bucket, "elsewhere", 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Prepare(); err == nil || !strings.Contains(err.Error(), "no such bucket") {
		t.Error(err)
	}
}
