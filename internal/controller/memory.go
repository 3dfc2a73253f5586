package controller

import (
	"context"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
)

// Memory serves a controller to its own process: the services and the messages
// are those of a fleet, only the wire is memory.
type Memory struct {
	listener *bufconn.Listener
	server   *grpc.Server
}

// ServeInMemory starts to serve.
func (s *Server) ServeInMemory() *Memory {
	m := &Memory{listener: bufconn.Listen(256 << 10), server: grpc.NewServer(grpc.WaitForHandlers(true))}
	s.Register(m.server)
	// Serve returns when Stop closes the listener, and has nothing else to say.
	go m.server.Serve(m.listener)
	return m
}

// Dial makes a connection. Results travel on one of their own.
func (m *Memory) Dial() (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///memory",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return m.listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// Stop ends all calls and waits for them.
func (m *Memory) Stop() { m.server.Stop() }
