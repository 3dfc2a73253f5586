package identity_test

import (
	"testing"

	"google.golang.org/grpc"

	"tfofleet/internal/identity"
)

// BenchmarkCall is a guarded unary call over TLS, with the records in memory.
func BenchmarkCall(b *testing.B) {
	c := newController(b, unlimited)
	conn := dial(b, c.address, c.operator("anna").Transport(c.clock.Now))
	for b.Loop() {
		if _, err := command(conn); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkConnect is a new connection and its first call.
func BenchmarkConnect(b *testing.B) {
	c := newController(b, unlimited)
	creds := c.operator("anna").Transport(c.clock.Now)
	for b.Loop() {
		conn, err := grpc.NewClient(c.address, grpc.WithTransportCredentials(creds))
		if err == nil {
			_, err = command(conn)
		}
		if err != nil {
			b.Fatal(err)
		}
		conn.Close()
	}
}

// BenchmarkEnroll is all of a probe's joining: two keys, a connection, and two
// files made durable.
func BenchmarkEnroll(b *testing.B) {
	c := newController(b, unlimited)
	tok := c.newToken(func(s *identity.TokenSpec) { s.Uses = 1 << 30 })
	for b.Loop() {
		if err := c.newProbe().Join(ctx, tok); err != nil {
			b.Fatal(err)
		}
	}
}

func unlimited(table identity.Table) {
	for method, rule := range table {
		rule.Limit = identity.Limit{PerSecond: 1e9, Burst: 1 << 30}
		table[method] = rule
	}
}
