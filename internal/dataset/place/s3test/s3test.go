// Package s3test runs a real S3 server for tests, and a wire to it that tests
// can cut. Nothing of it is skipped: a server that cannot be built or started
// fails the test.
package s3test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// Bucket is the bucket that every server has.
const Bucket = "surveys"

// Server is a running S3 server.
type Server struct {
	// Endpoint is its address as a client is given it, http://127.0.0.1:PORT.
	Endpoint string
	// AccessKey and SecretKey are also in the environment of the test.
	AccessKey, SecretKey string

	dir   string
	mu    sync.Mutex
	fault map[string]func(*http.Request) Fault // by what the path ends with
	count map[string]int
}

// Fault is what becomes of a request.
type Fault struct {
	// Status, when it is not 0, is answered in place of the server, with Code
	// as the code of S3.
	Status int
	Code   string
	// CutUpload and CutDownload end the connection after that many bytes of
	// the body; 0 does not.
	CutUpload, CutDownload int64
	// LoseResponse ends the connection when the server has answered.
	LoseResponse bool
}

// Start starts a server for the test and puts its credentials into the
// environment, so the test must not be parallel.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{AccessKey: "TESTACCESSKEY", SecretKey: "test/secret+key", dir: t.TempDir(), fault: make(map[string]func(*http.Request) Fault), count: make(map[string]int)}
	if err := os.Mkdir(filepath.Join(s.dir, Bucket), 0o755); err != nil {
		t.Fatal(err)
	}
	// The path of a unix socket is short.
	run, err := os.MkdirTemp("", "s3")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(run) })
	socket := filepath.Join(run, "s")
	s.run(t, socket)

	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	wire := httptest.NewServer(s.proxy(dial))
	t.Cleanup(wire.Close)
	s.Endpoint = wire.URL
	t.Setenv("AWS_ACCESS_KEY_ID", s.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s.SecretKey)
	return s
}

// URL is that of a prefix in the bucket.
func (s *Server) URL(prefix string) string {
	return "s3://" + Bucket + "/" + prefix + "?endpoint=" + s.Endpoint + "&region=us-east-1"
}

// Break decides on the fate of every request from now on; nil breaks none.
func (s *Server) Break(fault func(*http.Request) Fault) { s.BreakName("", fault) }

// BreakName decides on the fate of requests for a path that ends with name.
func (s *Server) BreakName(name string, fault func(*http.Request) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault[name] = fault
}

// Requests is how many requests came so far, by method.
func (s *Server) Requests(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count[method]
}

// run starts the server's process and waits until it answers.
func (s *Server) run(t testing.TB, socket string) {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	cmd := exec.Command("go", "run", ".", s.dir, socket, s.AccessKey, s.SecretKey) // built once, and then kept by go
	cmd.Dir = filepath.Join(filepath.Dir(here), "server")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		stdin.Close()
		<-ended
	})
	for {
		c, err := net.Dial("unix", socket)
		if err == nil {
			c.Close()
			return
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the S3 server ended: %v\n%s", err, out.Bytes())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

var errCut = errors.New("cut by the test")

// proxy is the wire between client and server.
func (s *Server) proxy(dial func(context.Context, string, string) (net.Conn, error)) http.Handler {
	type key struct{}
	p := &httputil.ReverseProxy{
		// A connection of its own for each request: what a cut one leaves, and what
		// the server leaves unread of an empty object, is not the next one's.
		Transport: &http.Transport{DialContext: dial, DisableCompression: true, DisableKeepAlives: true},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", r.In.Host
			r.Out.Host = r.In.Host // it is signed
			if f := r.In.Context().Value(key{}).(Fault); f.CutUpload > 0 && r.Out.Body != nil {
				r.Out.Body = &cut{r.Out.Body, f.CutUpload}
			}
		},
		ModifyResponse: func(r *http.Response) error {
			f := r.Request.Context().Value(key{}).(Fault)
			if f.LoseResponse {
				return errCut
			}
			if f.CutDownload > 0 {
				r.Body = &cut{r.Body, f.CutDownload}
			}
			return nil
		},
		// The connection is all that a client sees of an error.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ErrorLog:     log.New(io.Discard, "", 0),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.count[r.Method]++
		var f Fault
		for name, fault := range s.fault {
			if fault != nil && strings.HasSuffix(r.URL.Path, name) {
				f = fault(r)
			}
		}
		s.mu.Unlock()
		if f.Status != 0 {
			io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(f.Status)
			fmt.Fprintf(w, "<Error><Code>%s</Code><Message>by the test</Message></Error>", f.Code)
			return
		}
		p.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), key{}, f)))
	})
}

// cut is a body that breaks off.
type cut struct {
	io.ReadCloser
	left int64
}

func (c *cut) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errCut
	}
	n, err := c.ReadCloser.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}
