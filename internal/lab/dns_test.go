package lab_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"tfofleet/internal/lab"
	"tfofleet/internal/lab/labtest"
)

// query is a DNS query for a name.
func query(name string, typ dnsmessage.Type) []byte {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 7, RecursionDesired: true})
	b.EnableCompression()
	if err := errors.Join(b.StartQuestions(), b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName(name), Type: typ, Class: dnsmessage.ClassINET})); err != nil {
		panic(err)
	}
	m, err := b.Finish()
	if err != nil {
		panic(err)
	}
	return m
}

// exchange asks over UDP, or TCP with a length in front.
func exchange(network string, server netip.AddrPort, q []byte) (*dnsmessage.Message, error) {
	c, err := net.Dial(network, server.String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	buf := make([]byte, 1500)
	var n int
	if network == "tcp" {
		if _, err = c.Write(append([]byte{byte(len(q) >> 8), byte(len(q))}, q...)); err != nil {
			return nil, err
		}
		if _, err = io.ReadFull(c, buf[:2]); err != nil {
			return nil, err
		}
		n = int(buf[0])<<8 | int(buf[1])
		_, err = io.ReadFull(c, buf[:n])
	} else {
		if _, err = c.Write(q); err != nil {
			return nil, err
		}
		n, err = c.Read(buf)
	}
	if err != nil {
		return nil, err
	}
	m := new(dnsmessage.Message)
	return m, m.Unpack(buf[:n])
}

func TestDNS(t *testing.T) {
	l := labtest.New(t, lab.Config{})
	clean, _ := l.Target("clean")
	ports, _ := l.Target("ports-8080")
	dual4, _ := l.Target("dual-v4")
	dual6, _ := l.Target("dual-v6")
	none := netip.Addr{}
	for _, tt := range []struct {
		name   string
		v4, v6 netip.Addr
		rcode  dnsmessage.RCode
	}{
		{"clean.lab.", clean.V4, clean.V6, 0},
		{"CLEAN.lab.", clean.V4, clean.V6, 0},
		{"1.clean.lab.", clean.V4, clean.V6, 0},
		{"700.clean.lab.", clean.Addrs4(700)[699], clean.Addrs6(700)[699], 0},
		{"1001.clean.lab.", none, none, dnsmessage.RCodeNameError},
		{"0.clean.lab.", none, none, dnsmessage.RCodeNameError},
		{"ports.lab.", ports.V4, ports.V6, 0},
		{"dual.lab.", dual4.V4, dual6.V6, 0},
		{"250.dual.lab.", dual4.Addrs4(250)[249], dual6.Addrs6(250)[249], 0},
		{"251.dual.lab.", none, none, dnsmessage.RCodeNameError},
		{"x.clean.lab.", none, none, dnsmessage.RCodeNameError},
		{"v4only.lab.", lab.DirectAddr4(1), none, 0},
		{"v6only.lab.", none, lab.DirectAddr6(1), 0},
		{"empty.lab.", none, none, 0},
		{"nothing.lab.", none, none, dnsmessage.RCodeNameError},
		{"clean.example.", none, none, dnsmessage.RCodeNameError},
		{"servfail.lab.", none, none, dnsmessage.RCodeServerFailure},
	} {
		for _, server := range l.DNS() {
			for _, network := range []string{"udp", "tcp"} {
				labtest.InClient(t, l, func() error {
					for typ, want := range map[dnsmessage.Type]netip.Addr{dnsmessage.TypeA: tt.v4, dnsmessage.TypeAAAA: tt.v6} {
						m, err := exchange(network, server, query(tt.name, typ))
						if err != nil {
							t.Errorf("%s %s %s at %s: %v", network, tt.name, typ, server, err)
							continue
						}
						var got netip.Addr
						for _, a := range m.Answers {
							switch b := a.Body.(type) {
							case *dnsmessage.AResource:
								got = netip.AddrFrom4(b.A)
							case *dnsmessage.AAAAResource:
								got = netip.AddrFrom16(b.AAAA)
							}
						}
						if got != want || m.RCode != tt.rcode || m.ID != 7 || !m.Response {
							t.Errorf("%s %s %s at %s: %v %v, want %v %v", network, tt.name, typ, server, got, m.RCode, want, tt.rcode)
						}
					}
					return nil
				})
			}
		}
	}
}

// TestDNSTimeout: the resolver takes the query and stays silent, which is not
// what a refused port looks like.
func TestDNSTimeout(t *testing.T) {
	l := labtest.New(t, lab.Config{Paths: []lab.Path{}})
	labtest.InClient(t, l, func() error {
		c, err := net.Dial("udp", l.DNS()[0].String())
		if err != nil {
			return err
		}
		defer c.Close()
		for _, name := range []string{"timeout.lab.", "other.lab."} {
			if _, err := c.Write(query(name, dnsmessage.TypeA)); err != nil {
				return err
			}
		}
		// The answer to the second query is the first to come.
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		buf := make([]byte, 1500)
		n, err := c.Read(buf)
		if err != nil {
			return err
		}
		var m dnsmessage.Message
		if err := m.Unpack(buf[:n]); err != nil {
			return err
		}
		if got := m.Questions[0].Name.String(); got != "other.lab." {
			t.Errorf("an answer for %s", got)
		}
		return nil
	})
}

// TestDNSWithGoResolver: what a program would use finds both addresses.
func TestDNSWithGoResolver(t *testing.T) {
	l := labtest.New(t, lab.Config{})
	clean, _ := l.Target("clean")
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (c net.Conn, err error) {
		err = lab.In(l.ClientNetNS(), func() error {
			c, err = net.Dial(network, l.DNS()[0].String())
			return err
		})
		return c, err
	}}
	got, err := r.LookupNetIP(t.Context(), "ip", "clean.lab.")
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		got[i] = got[i].Unmap()
	}
	slices.SortFunc(got, netip.Addr.Compare)
	if !slices.Equal(got, []netip.Addr{clean.V4, clean.V6}) {
		t.Errorf("got %v", got)
	}
}
