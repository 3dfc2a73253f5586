package identity

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
)

// piped is a listener of connections in memory, whose time is that of the test.
type piped struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *piped) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *piped) Close() error {
	close(p.closed)
	return nil
}

func (*piped) Addr() net.Addr { return &net.TCPAddr{} }

// late is a connection whose deadlines are taken off a moment later, when others
// may have been set.
type late struct{ net.Conn }

func (c late) SetDeadline(at time.Time) error {
	if at.IsZero() {
		time.Sleep(time.Second)
	}
	return c.Conn.SetDeadline(at)
}

// TestSlowRequests: who is slow on purpose, in whatever part of a request, is
// cut off, and gRPC's own deadline for connections is not what does it.
func TestSlowRequests(t *testing.T) {
	dir := t.TempDir()
	for _, test := range []struct {
		name string
		say  string // at once
		slow string // then a byte of it every second, again and again
		// when the connection ends, or a little later
		after  time.Duration
		answer string
	}{
		{name: "nothing", after: headerTime},
		{name: "half a line", say: "GET / HT", after: headerTime},
		{name: "a header that does not end", say: "GET / HTTP/1.1\r\nHost: x\r\n", slow: "X: y\r\n", after: headerTime},
		{name: "HTTP/2 without being asked", say: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", after: 0, answer: "HTTP/1.1 "},
		{name: "a body that does not come", say: "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", after: 0, answer: "HTTP/1.1 403 "},
		{name: "a body that does not end", say: "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", slow: "1\r\nx\r\n", after: 0, answer: "HTTP/1.1 403 "},
		{name: "a body that is announced", say: "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n", after: 0, answer: "HTTP/1.1 403 "},
		{name: "a request", say: "GET / HTTP/1.1\r\nHost: x\r\n\r\n", after: 0, answer: "HTTP/1.1 403 "},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca, err := OpenCA(dir, time.Now())
				if err != nil {
					t.Fatal(err)
				}
				a := &Authority{cfg: Config{CA: ca, Now: time.Now}, log: hclog.NewNullLogger(), live: newLive()}
				guard := a.Guard(Methods())
				web := guard.Web(http.NotFoundHandler())
				server := grpc.NewServer(append(guard.ServerOptions(), grpc.ConnectionTimeout(5*time.Second))...)
				l := &piped{make(chan net.Conn), make(chan struct{})}
				go server.Serve(l)
				defer server.Stop()
				defer web.Close()

				near, far := net.Pipe()
				l.conns <- late{far}
				conn := tls.Client(near, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
				if err := conn.Handshake(); err != nil {
					t.Fatal(err)
				}
				begun := time.Now()
				var said sync.WaitGroup
				said.Go(func() {
					_, err := io.WriteString(conn, test.say)
					for i := 0; err == nil && test.slow != ""; i++ {
						time.Sleep(time.Second)
						_, err = io.WriteString(conn, test.slow[i%len(test.slow):][:1])
					}
				})
				got, err := io.ReadAll(bufio.NewReader(conn))
				if n := net.Error(nil); errors.As(err, &n) && n.Timeout() {
					t.Error(err)
				}
				if took := time.Since(begun); took < test.after || took > test.after+3*time.Second {
					t.Errorf("it ended after %v, want %v", took, test.after)
				}
				if !strings.HasPrefix(string(got), test.answer) {
					t.Errorf("the answer is %q", got)
				}
				near.Close()
				said.Wait()
			})
		})
	}
}
