package lab_test

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"tfofleet/internal/lab"
	"tfofleet/internal/lab/labtest"
)

// BenchmarkConnections makes whole connections, request and answer, from 32
// threads: over the direct link, and through the box with and without rules.
func BenchmarkConnections(b *testing.B) {
	l := labtest.New(b, lab.Config{})
	clean, _ := l.Target("clean")
	stripped, _ := l.Target("option-stripped")
	var direct []netip.Addr
	for n := range 1000 {
		direct = append(direct, lab.DirectAddr4(1+n))
	}
	for _, bb := range []struct {
		name string
		to   []netip.Addr
	}{{"direct", direct}, {"box", clean.Addrs4(1000)}, {"rule", stripped.Addrs4(250)}} {
		b.Run(bb.name, func(b *testing.B) {
			before := l.Stats()
			var next atomic.Int64
			var all sync.WaitGroup
			for range 32 {
				all.Go(func() {
					err := lab.In(l.ClientNetNS(), func() error {
						buf := make([]byte, 512)
						for {
							i := int(next.Add(1)) - 1
							if i >= b.N {
								return nil
							}
							if err := once(bb.to[i%len(bb.to)], buf); err != nil {
								return err
							}
						}
					})
					if err != nil {
						b.Error(err)
					}
				})
			}
			all.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "conns/s")
			b.ReportMetric(float64(l.Stats().Frames-before.Frames)/b.Elapsed().Seconds(), "frames/s")
		})
	}
}

func once(to netip.Addr, buf []byte) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, err := unix.SendmsgN(fd, request, nil, &unix.SockaddrInet4{Port: 80, Addr: to.As4()}, unix.MSG_FASTOPEN); err != nil {
		return err
	}
	_, err = unix.Read(fd, buf)
	return err
}

// BenchmarkBulk sends one stream of full frames through the box: frames per
// second, acknowledgements included.
func BenchmarkBulk(b *testing.B) {
	l := labtest.New(b, lab.Config{Paths: []lab.Path{{Name: "path", Port: 80, Servers: []lab.Server{web}}}})
	var ln net.Listener
	labtest.InServers(b, l, func() (err error) {
		ln, err = net.Listen("tcp4", ":9000")
		return err
	})
	defer ln.Close()
	var c net.Conn
	labtest.InClient(b, l, func() (err error) {
		c, err = net.Dial("tcp", netip.AddrPortFrom(l.Targets()[0].V4, 9000).String())
		return err
	})
	s, err := ln.Accept()
	if err != nil {
		b.Fatal(err)
	}
	before := l.Stats()
	b.SetBytes(1448)
	b.ResetTimer()
	go func() {
		buf := make([]byte, 1<<16)
		for n := b.N * 1448; n > 0; n -= len(buf) {
			_, _ = c.Write(buf[:min(n, len(buf))])
		}
		c.Close()
	}()
	if _, err := io.Copy(io.Discard, s); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(l.Stats().Frames-before.Frames)/b.Elapsed().Seconds(), "frames/s")
}

// BenchmarkNew is the time to build a whole lab and take it down.
func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		l, err := lab.New(b.Context(), lab.Config{})
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
