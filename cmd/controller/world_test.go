package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/dns/dnsmessage"
)

// worldMain is the command "world": it runs another command in a network
// namespace of its own, with real servers and a kernel set as asked for.
//
//	world [flags] command args...
//
// Interrupts are passed on to the command, its exit code is the world's.
func worldMain(args []string) int {
	w := &world{}
	fs := flag.NewFlagSet("world", flag.ContinueOnError)
	fs.BoolVar(&w.inside, "inside", false, "the namespaces are made already")
	fs.BoolVar(&w.user, "user", false, "in a user namespace, where the cookie cache can be read and not emptied")
	fs.BoolVar(&w.down, "down", false, "leave the loopback device down: no route to anything")
	fs.Func("serve", "port to answer on with TCP Fast Open, on every loopback address", func(s string) error { w.serve = append(w.serve, s); return nil })
	fs.BoolVar(&w.dns, "dns", false, "answer DNS on 127.0.0.1:53: NAME.test is 127.0.0.1, all else does not exist")
	fs.Int64Var(&w.interrupt, "interrupt", 0, "interrupt the command when that many connections were made")
	fs.Func("sysctl", "net.NAME=VALUE to set first", func(s string) error { w.sysctls = append(w.sysctls, s); return nil })
	if err := fs.Parse(args); err != nil {
		return 2
	}
	w.command = fs.Args()
	var err error
	if w.inside {
		err = w.run()
	} else {
		err = w.enter(args)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "world:", err)
		return 99
	}
	return 0
}

type world struct {
	inside, user, down, dns bool
	serve, sysctls, command []string
	interrupt               int64
	connections             atomic.Int64
}

// enter starts the world again, in new namespaces.
func (w *world) enter(args []string) error {
	cmd := exec.Command(os.Args[0], append([]string{"-inside"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if w.user || os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return accompany(cmd)
}

func (w *world) run() error {
	if !w.down {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			return err
		}
	}
	// 0x1 client, 0x2 server, 0x400 every listener without asking for it.
	for _, s := range append([]string{"net.ipv4.tcp_fastopen=0x403"}, w.sysctls...) {
		name, value, _ := strings.Cut(s, "=")
		if err := os.WriteFile("/proc/sys/"+strings.ReplaceAll(name, ".", "/"), []byte(value), 0); err != nil {
			return err
		}
	}
	for _, port := range w.serve {
		if err := w.serveHTTP(port); err != nil {
			return err
		}
	}
	if w.dns {
		if err := serveDNS(); err != nil {
			return err
		}
	}
	return accompany(exec.Command(w.command[0], w.command[1:]...))
}

// accompany runs a command to its end and passes interrupts on to it.
func accompany(cmd *exec.Cmd) error {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	return cmd.Wait()
}

// serveHTTP answers every request with the same few bytes.
func (w *world) serveHTTP(port string) error {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(context.Background(), "tcp4", "0.0.0.0:"+port)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if w.connections.Add(1) == w.interrupt {
				_ = syscall.Kill(os.Getpid(), syscall.SIGINT) // passed on
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(5 * time.Second))
				if _, err := c.Read(make([]byte, 2048)); err == nil {
					_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
				}
			}()
		}
	}()
	return nil
}

func serveDNS() error {
	c, err := net.ListenPacket("udp4", "127.0.0.1:53")
	if err != nil {
		return err
	}
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			m.Header.Response, m.Additionals = true, nil
			known := strings.HasSuffix(q.Name.String(), ".test.")
			if !known {
				m.Header.RCode = dnsmessage.RCodeNameError
			}
			if known && q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60},
					Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
				}}
			}
			if b, err := m.Pack(); err == nil {
				_, _ = c.WriteTo(b, from)
			}
		}
	}()
	return nil
}
