package identity

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc/peer"
)

// Pages stands in a table for whatever a guard has browsers look at, see
// [Guard.Web]. How long a page may go on is not in its rule.
const Pages = "pages"

// Web is what the port of a guarded gRPC server is for browsers.
type Web struct {
	guard  *Guard
	server *http.Server
	conns  chan net.Conn
	closed chan struct{}
	close  func() // closes closed
	stop   context.CancelFunc
}

const (
	// headerTime is how long a request may take to say what it wants.
	headerTime = 10 * time.Second
	// headerSize is what that may take.
	headerSize = 16 << 10
	// idleTime is how long a connection may be of no use.
	idleTime = 2 * time.Minute
	// closeTime is how long requests have to notice that it is over.
	closeTime = time.Second
	// answerTime is for the largest answer over a poor line. What has no end has
	// deadlines of its own.
	answerTime = 10 * time.Minute
)

// Web begins to serve pages on the port of the guard's server: to whoever
// offers HTTP/1.1 or no protocol at all in the TLS handshake, as browsers and
// programs like curl do and gRPC never does. A request is admitted as a call is,
// by the rule for Pages, and its context ends, with the reason, when that of a
// stream would. Web comes before ServerOptions; Close before the server is
// stopped.
func (g *Guard) Web(h http.Handler) *Web {
	base, stop := context.WithCancel(context.Background())
	closed := make(chan struct{})
	w := &Web{guard: g, conns: make(chan net.Conn), closed: closed, close: sync.OnceFunc(func() { close(closed) }), stop: stop}
	w.server = &http.Server{
		Handler:           g.pages(h),
		ReadHeaderTimeout: headerTime, MaxHeaderBytes: headerSize, IdleTimeout: idleTime, WriteTimeout: answerTime,
		ErrorLog:    g.a.log.Named("web").StandardLogger(nil),
		BaseContext: func(net.Listener) context.Context { return base },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return peer.NewContext(ctx, &peer.Peer{Addr: c.RemoteAddr(), AuthInfo: c.(*webConn).info})
		},
	}
	g.web = w
	// It returns when Close closes the listener, and has nothing else to say.
	go w.server.Serve(webListener{w})
	return w
}

// Close ends all requests and connections, and waits for them.
func (w *Web) Close() error {
	w.stop()
	w.close() // also where Serve has not begun
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	if err := w.server.Shutdown(ctx); err == nil {
		return nil
	}
	return w.server.Close()
}

// serve has a connection served and returns when it has ended: gRPC takes the
// deadlines off a connection when it was handed over, which must then not be in
// use any more.
func (w *Web) serve(c net.Conn, info connInfo) {
	c.SetDeadline(time.Time{}) // that of the handshake; an error is the next reader's
	gone := make(chan struct{})
	conn := &webConn{c, info, sync.OnceFunc(func() { close(gone) })}
	select {
	case w.conns <- conn:
		<-gone
	case <-w.closed:
		c.Close()
	}
}

// webConn is a connection of a browser.
type webConn struct {
	net.Conn
	info connInfo
	gone func()
}

// Close implements net.Conn.
func (c *webConn) Close() error {
	defer c.gone()
	return c.Conn.Close()
}

// webListener is where http.Server gets its connections from.
type webListener struct{ w *Web }

// Accept implements net.Listener.
func (l webListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.w.conns:
		return c, nil
	case <-l.w.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l webListener) Close() error {
	l.w.close()
	return nil
}

// Addr implements net.Listener; the port is the gRPC server's.
func (webListener) Addr() net.Addr { return &net.TCPAddr{} }

// pages is the guard before a handler.
func (g *Guard) pages(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			// Nothing here reads a body, and nobody waits for its end.
			w.Header().Set("Connection", "close")
			if err := http.NewResponseController(w).SetReadDeadline(time.Now()); err != nil {
				return // it is closed already
			}
		}
		ctx, end := context.WithCancelCause(r.Context())
		defer end(nil)
		_, ctx, leave, err := g.enter(ctx, Pages, end)
		if err != nil {
			turnAway(w, err)
			return
		}
		defer leave()
		if r.ContentLength != 0 {
			http.Error(w, "a request has no body here", http.StatusRequestEntityTooLarge)
			return
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// turnAway says in one line why a request was refused, and what would help.
func turnAway(w http.ResponseWriter, err error) {
	w.Header().Set("Connection", "close")
	var d *Denial
	switch {
	case !errors.As(err, &d):
		http.Error(w, "the controller cannot look you up at the moment", http.StatusServiceUnavailable)
	case d.Reason == RateLimited:
		w.Header().Set("Retry-After", strconv.Itoa(int(d.RetryAfter/time.Second)+1))
		http.Error(w, d.Error(), http.StatusTooManyRequests)
	default:
		http.Error(w, d.Error()+`; this is for operators: "controller operator create NAME --p12 FILE" makes a certificate that browsers import`, http.StatusForbidden)
	}
}
