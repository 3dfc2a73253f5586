package identity_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"tfofleet/internal/identity"
	"tfofleet/internal/identity/identitytest"
)

// browser is a program that speaks HTTPS to the controller, and shows the
// certificate, if any.
func (c *controller) browser(cert *tls.Certificate, protocols ...string) *http.Client {
	c.t.Helper()
	root, err := x509.ParseCertificate(c.ca.Bundle()[0])
	ok(c.t, err)
	pool := x509.NewCertPool()
	pool.AddCert(root)
	config := &tls.Config{RootCAs: pool, Time: c.clock.Now, NextProtos: protocols}
	if cert != nil {
		// Without a look at what CAs the controller asks for.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	transport := &http.Transport{TLSClientConfig: config, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}
	c.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second}
}

// certOf is what a credential shows.
func certOf(t *testing.T, config *tls.Config) *tls.Certificate {
	t.Helper()
	cert, err := config.GetClientCertificate(nil)
	ok(t, err)
	return cert
}

func (c *controller) operatorCert(name string) *tls.Certificate {
	c.t.Helper()
	cert, err := c.operator(name).TLS(c.clock.Now).GetClientCertificate(nil)
	ok(c.t, err)
	return cert
}

// visit asks for a page.
func visit(t *testing.T, client *http.Client, method, url string, body io.Reader) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	ok(t, err)
	resp, err := client.Do(req)
	ok(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	ok(t, err)
	return resp, string(b)
}

// TestPages: whatever speaks HTTP/1.1 sees them with an operator's certificate,
// and gRPC is served beside it.
func TestPages(t *testing.T) {
	c := newController(t)
	cred := c.operator("anna")
	cert := certOf(t, cred.TLS(c.clock.Now))
	for _, protocols := range [][]string{nil, {"http/1.1"}, {"h2", "http/1.1"}, {"http/1.1", "h2"}} {
		client := c.browser(cert, protocols...)
		for range 3 {
			resp, text := visit(t, client, http.MethodGet, "https://"+c.address+"/", nil)
			if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 1 || text != "anna\n" {
				t.Errorf("%q: %s %s %q", protocols, resp.Proto, resp.Status, text)
			}
		}
		name, err := command(dial(t, c.address, cred.Transport(c.clock.Now)))
		if err != nil || name != "anna" {
			t.Errorf("gRPC beside it: %q, %v", name, err)
		}
	}
	// As Go's client is when nobody has set anything but certificates.
	usual := c.browser(cert)
	usual.Transport.(*http.Transport).TLSNextProto = nil
	if resp, text := visit(t, usual, http.MethodGet, "https://"+c.address+"/", nil); text != "anna\n" {
		t.Errorf("%s %q", resp.Status, text)
	}
	// It finds the one that fits, by the CAs that the controller asks for.
	choosing := c.browser(nil)
	choosing.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{*forge(t), *cert}
	if resp, text := visit(t, choosing, http.MethodGet, "https://"+c.address+"/", nil); text != "anna\n" {
		t.Errorf("%s %q", resp.Status, text)
	}
}

// TestNoPages: a port without a Web is for gRPC only.
func TestNoPages(t *testing.T) {
	c := newController(t)
	server := grpc.NewServer(c.Guard(c.table).ServerOptions()...)
	t.Cleanup(server.Stop)
	l := listen(t)
	go server.Serve(l)
	for _, protocols := range [][]string{nil, {"http/1.1"}} {
		resp, err := c.browser(c.operatorCert("anna"), protocols...).Get("https://" + l.Addr().String() + "/")
		if err == nil {
			resp.Body.Close()
			t.Errorf("%q: %s", protocols, resp.Status)
		}
	}
}

// refused fails unless the client is told in one line that the page is not for
// it, and why, and loses its connection.
func (c *controller) refused(what string, client *http.Client, code int, why string) {
	c.t.Helper()
	resp, text := visit(c.t.(*testing.T), client, http.MethodGet, "https://"+c.address+"/", nil)
	if resp.StatusCode != code || !strings.HasPrefix(text, why) || strings.Count(text, "\n") != 1 || !resp.Close {
		c.t.Errorf("%s: %s %q", what, resp.Status, text)
	}
}

// TestWhoMaySeeNoPage has the callers of TestWhoMayNotCall and those whose
// certificate is not good any more.
func TestWhoMaySeeNoPage(t *testing.T) {
	clock, dir := newClock(), t.TempDir()
	store := identitytest.NewMemory(clock.Now)
	c := startController(t, dir, clock, store)
	tlsOf := func(p *probe) *tls.Certificate {
		config, err := p.TLS()
		ok(t, err)
		return certOf(t, config)
	}
	unrecorded := startController(t, dir, clock, identitytest.NewMemory(clock.Now)).operatorCert("anna")
	fleet := "tfofleet://" + c.ca.Fleet()
	for _, test := range []struct {
		name string
		cert *tls.Certificate
		why  string
	}{
		{"no certificate", nil, "certificate missing;"},
		{"a stranger's", forge(t), "certificate untrusted"},
		{"a stranger's with the name of an operator", forge(t, fleet+"/operator/anna"), "certificate untrusted"},
		{"a controller's", forge(t, fleet+"/controller"), "certificate untrusted"},
		{"another fleet's", newController(t).operatorCert("anna"), "certificate wrong fleet"},
		{"a probe's", tlsOf(c.joined()), "not permitted: only for an operator;"},
		{"one that no record knows", unrecorded, "certificate unknown;"},
	} {
		c.refused(test.name, c.browser(test.cert), http.StatusForbidden, test.why)
	}

	cert := c.operatorCert("anna")
	client := c.browser(cert)
	visit(t, client, http.MethodGet, "https://"+c.address+"/", nil)
	visit(t, c.browser(c.operatorCert("anna")), http.MethodGet, "https://"+c.address+"/", nil)
	clock.add(2 * time.Hour)
	c.refused("superseded, on a connection that lives", client, http.StatusForbidden, "certificate superseded;")

	last := c.browser(c.operatorCert("bob"))
	visit(t, last, http.MethodGet, "https://"+c.address+"/", nil)
	clock.add(identity.OperatorLife)
	c.refused("expired", last, http.StatusForbidden, "certificate expired:")
	banned := c.browser(c.operatorCert("carl"))
	visit(t, banned, http.MethodGet, "https://"+c.address+"/", nil)
	ok(t, c.Ban(ctx, identity.KindOperator, "carl", "left"))
	c.refused("banned", banned, http.StatusForbidden, "banned: operator carl was banned: left;")

	someone := c.browser(c.operatorCert("dora"))
	store.Fail = func() error { return errAway }
	c.refused("while the records cannot be read", someone, http.StatusServiceUnavailable, "the controller cannot look you up at the moment\n")
	if !contains(c.logs.String(), errAway.Error()) {
		t.Error("the operator is not told")
	}
	store.Fail = nil
	visit(t, someone, http.MethodGet, "https://"+c.address+"/", nil)
}

// TestPagesFlood: requests are counted as calls are.
func TestPagesFlood(t *testing.T) {
	c := newController(t, func(table identity.Table) {
		table[identity.Pages] = identity.Rule{Class: identity.Operators, Limit: identity.Limit{PerSecond: 1, Burst: 3}}
	})
	client := c.browser(c.operatorCert("anna"))
	for range 3 {
		if resp, _ := visit(t, client, http.MethodGet, "https://"+c.address+"/", nil); resp.StatusCode != http.StatusOK {
			t.Error(resp.Status)
		}
		c.refused("a stranger", c.browser(nil), http.StatusForbidden, "certificate missing")
	}
	resp, _ := visit(t, client, http.MethodGet, "https://"+c.address+"/", nil)
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "2" {
		t.Errorf("%s, %q", resp.Status, resp.Header)
	}
	c.refused("a stranger that comes too often", c.browser(nil), http.StatusTooManyRequests, "rate limited")
	c.clock.add(time.Second)
	if resp, _ := visit(t, client, http.MethodGet, "https://"+c.address+"/", nil); resp.StatusCode != http.StatusOK {
		t.Error(resp.Status)
	}
}

// TestPageWithBody: nothing is read of it.
func TestPageWithBody(t *testing.T) {
	c := newController(t)
	url := "https://" + c.address + "/"
	client := c.browser(c.operatorCert("anna"))
	for name, body := range map[string]io.Reader{"of known size": strings.NewReader("x"), "of any size": io.MultiReader(strings.NewReader("x"))} {
		if resp, text := visit(t, client, http.MethodPost, url, body); resp.StatusCode != http.StatusRequestEntityTooLarge || !resp.Close {
			t.Errorf("a body %s: %s %q", name, resp.Status, text)
		}
		if resp, text := visit(t, c.browser(nil), http.MethodPost, url, body); resp.StatusCode != http.StatusForbidden {
			t.Errorf("a stranger's %s: %s %q", name, resp.Status, text)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	ok(t, err)
	req.Header.Set("X-Large", strings.Repeat("x", 64<<10))
	if resp, err := client.Do(req); err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("64 KiB of headers: %s", resp.Status)
		}
	}
}

// live looks at a page that goes on, and has had its beginning.
func (c *controller) live(cert *tls.Certificate) *bufio.Reader {
	c.t.Helper()
	client := c.browser(cert)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+c.address+"/live", nil)
	ok(c.t, err)
	resp, err := client.Do(req)
	ok(c.t, err)
	c.t.Cleanup(func() { resp.Body.Close() })
	r := bufio.NewReader(resp.Body)
	_, err = r.ReadString('\n')
	ok(c.t, err)
	return r
}

// TestPageEnds: what ends a stream ends a page that goes on, and nobody else's.
func TestPageEnds(t *testing.T) {
	clock, dir := newClock(), t.TempDir()
	store := identitytest.NewMemory(clock.Now)
	a, b := startController(t, dir, clock, store), startController(t, dir, clock, store)
	banned, elsewhere, good := a.live(a.operatorCert("anna")), a.live(a.operatorCert("bob")), a.live(a.operatorCert("carl"))
	over := func(r *bufio.Reader, why identity.Reason) {
		t.Helper()
		denied(t, <-a.seen, why)
		if _, err := io.ReadAll(r); err != nil {
			t.Error(err)
		}
	}
	ok(t, a.Ban(ctx, identity.KindOperator, "anna", "left"))
	over(banned, identity.Banned)
	ok(t, b.Ban(ctx, identity.KindOperator, "bob", "left"))
	ok(t, a.Recheck(ctx))
	over(elsewhere, identity.Banned)

	old := a.live(a.operatorCert("dora"))
	clock.add(time.Second)
	fresh := a.live(a.operatorCert("dora"))
	ok(t, a.Recheck(ctx))
	over(old, identity.CertificateSuperseded)
	ok(t, a.Ban(ctx, identity.KindOperator, "dora", "left"))
	over(fresh, identity.Banned)

	clock.add(identity.OperatorLife - 2*time.Second)
	ok(t, a.Recheck(ctx))
	select {
	case err := <-a.seen:
		t.Errorf("a page ended before its operator's certificate: %v", err)
	default:
	}
	clock.add(time.Second)
	ok(t, a.Recheck(ctx))
	over(good, identity.CertificateExpired)
}

// TestWebClose: pages end, whatever they are doing, and the server can.
func TestWebClose(t *testing.T) {
	c := newController(t)
	guard := c.Guard(c.table)
	web := guard.Web(http.HandlerFunc(c.page))
	server := grpc.NewServer(guard.ServerOptions()...)
	l := listen(t)
	over := make(chan error)
	go func() { over <- server.Serve(l) }()
	c.address = l.Addr().String()
	c.live(c.operatorCert("anna"))
	idle := c.browser(c.operatorCert("anna"))
	visit(t, idle, http.MethodGet, "https://"+c.address+"/", nil)
	silent, err := tls.Dial("tcp", c.address, &tls.Config{InsecureSkipVerify: true})
	ok(t, err)
	defer silent.Close()

	ok(t, web.Close())
	if err := <-c.seen; err == nil {
		t.Error("a page has no end")
	}
	if _, err := silent.Read(make([]byte, 1)); err == nil {
		t.Error("a connection is still there")
	} else if n := net.Error(nil); errors.As(err, &n) && n.Timeout() {
		t.Error(err)
	}
	if resp, err := idle.Get("https://" + c.address + "/"); err == nil {
		resp.Body.Close()
		t.Errorf("a page after the end: %s", resp.Status)
	}
	server.GracefulStop()
	ok(t, <-over)
}
