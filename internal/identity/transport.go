package identity

import (
	"net"
	"time"

	"google.golang.org/grpc/credentials"
)

// transport is the security of a controller's connections: TLS, or the
// operator's socket.
type transport struct {
	credentials.TransportCredentials // TLS
	ca                               *CA
}

// connInfo is what a connection says of its peer.
type connInfo struct {
	credentials.CommonAuthInfo
	operator bool // it came over the operator's socket
	holder   holder
	denial   *Denial // why there is no holder
}

func (connInfo) AuthType() string { return scheme }

func (a *Authority) transport() credentials.TransportCredentials {
	return &transport{credentials.NewTLS(a.ServerTLS()), a.cfg.CA}
}

// ServerHandshake implements credentials.TransportCredentials.
func (t *transport) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	info := connInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}
	if _, ok := raw.(socketConn); ok {
		info.operator = true
		return raw, info, nil
	}
	conn, auth, err := t.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		return nil, nil, err
	}
	info.holder, info.denial = t.ca.now().verify(auth.(credentials.TLSInfo).State.PeerCertificates)
	if info.denial != nil {
		conn = brief(conn, strangerLife)
	}
	return conn, info, nil
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
	return &transport{t.TransportCredentials.Clone(), t.ca}
}
