package identity

import (
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"time"

	"google.golang.org/grpc/credentials"
)

// transport is the security of a controller's connections: TLS, or the
// operator's socket.
type transport struct {
	credentials.TransportCredentials // TLS
	config                           *tls.Config
	ca                               *CA
	web                              *Web // nil: browsers are not served
}

// connInfo is what a connection says of its peer.
type connInfo struct {
	credentials.CommonAuthInfo
	operator bool // it came over the operator's socket
	holder   holder
	denial   *Denial // why there is no holder
}

func (connInfo) AuthType() string { return scheme }

func (a *Authority) transport(web *Web) credentials.TransportCredentials {
	config := a.ServerTLS()
	if web != nil {
		config.GetConfigForClient = a.webTLS
	}
	return &transport{credentials.NewTLS(config), config, a.cfg.CA, web}
}

// webTLS is the configuration for who is no gRPC client, nil for who is: that
// offers HTTP/2 and nothing else. The CAs are told so that a browser knows which
// certificate to show, and asks nobody who has none.
func (a *Authority) webTLS(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if slices.Contains(hello.SupportedProtos, "h2") && !slices.Contains(hello.SupportedProtos, "http/1.1") {
		return nil, nil
	}
	config := a.ServerTLS()
	config.NextProtos, config.ClientCAs = []string{"http/1.1"}, a.cfg.CA.now().pool()
	return config, nil
}

var errNotHTTP2 = errors.New("the client does not speak HTTP/2")

// ServerHandshake implements credentials.TransportCredentials.
func (t *transport) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	info := connInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}
	if _, ok := raw.(socketConn); ok {
		info.operator = true
		return raw, info, nil
	}
	secure := tls.Server(raw, t.config)
	if err := secure.Handshake(); err != nil {
		return nil, nil, err // gRPC closes the connection
	}
	state := secure.ConnectionState()
	info.holder, info.denial = t.ca.now().verify(state.PeerCertificates)
	conn := net.Conn(secure)
	if info.denial != nil {
		conn = brief(conn, strangerLife)
	}
	switch {
	case state.NegotiatedProtocol == "h2":
		return conn, info, nil
	case t.web == nil:
		conn.Close()
		return nil, nil, errNotHTTP2
	}
	t.web.serve(conn, info)
	return nil, nil, credentials.ErrConnDispatched
}

// strangerLife is how long the connection of somebody without a certificate of
// the fleet may last: long enough for the slowest enrolment or recovery, see
// Methods. Whoever opens connections or calls and says nothing gets rid of them.
const strangerLife = 45 * time.Second

// brief ends a connection after some time.
func brief(c net.Conn, life time.Duration) net.Conn {
	return &briefConn{c, time.AfterFunc(life, func() { c.Close() })}
}

type briefConn struct {
	net.Conn
	end *time.Timer
}

// Close implements net.Conn.
func (c *briefConn) Close() error {
	c.end.Stop()
	return c.Conn.Close()
}

// Clone implements credentials.TransportCredentials.
func (t *transport) Clone() credentials.TransportCredentials {
	return &transport{t.TransportCredentials.Clone(), t.config, t.ca, t.web}
}
