package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/report"
	"tfofleet/internal/tfo"
)

// connectFlags are the flags of probe connect.
type connectFlags struct {
	server  string
	port    uint16
	v4, v6  bool
	plan    string
	payload string
	timeout time.Duration
	repeat  int
	noCook  bool
	json    bool
	pcap    string
	netns   string
}

func defaultConnect() connectFlags {
	return connectFlags{port: 443, plan: measure.Standard.String(), payload: "auto", timeout: 5 * time.Second, repeat: 1}
}

func (a *app) connectCommand() *cobra.Command {
	f := defaultConnect()
	cmd := &cobra.Command{
		Use:   "connect HOST[:PORT]",
		Short: "Connect to one target and tell what happened to TCP Fast Open, attempt by attempt",
		Long: `connect measures one target and tells every attempt as a packet trace is read:
what left, what came back, what the kernel says, what the cookie cache held
before and after, and then the verdict with its reasons.

With CAP_NET_RAW it looks at the packets themselves, and says "seen" of them.`,
		Example: `  probe connect www.example.com
  probe connect -s 192.0.2.1 -p 80 --plan thorough --pcap handshake.pcapng`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error { return a.connect(cmd.Context(), f, args) },
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.server, "server", "s", "", "host name or address, in place of HOST")
	fl.Uint16VarP(&f.port, "port", "p", f.port, "port, where HOST has none")
	fl.BoolVarP(&f.v4, "ipv4", "4", false, "IPv4 only")
	fl.BoolVarP(&f.v6, "ipv6", "6", false, "IPv6 only")
	fl.StringVar(&f.plan, "plan", f.plan, "quick, standard or thorough")
	fl.StringVar(&f.payload, "payload", f.payload, "auto, http, tls, dns, file:PATH or none")
	fl.DurationVar(&f.timeout, "timeout", f.timeout, "for each handshake, and again for each response")
	fl.IntVar(&f.repeat, "repeat", f.repeat, "measure this often")
	fl.BoolVar(&f.noCook, "no-cookie", false, "send data without any cookie (TCP_FASTOPEN_NO_COOKIE)")
	fl.BoolVar(&f.json, "json", false, "one JSON object per measurement, as controller export writes it")
	fl.StringVar(&f.pcap, "pcap", "", "write the handshake packets to this file, as pcapng with comments")
	fl.StringVar(&f.netns, "netns", "", "connect from this network namespace (a path such as /run/netns/NAME)")
	return cmd
}

func (a *app) connect(ctx context.Context, f connectFlags, args []string) error {
	settings, err := f.settings()
	if err != nil {
		return err
	}
	target, err := f.target(ctx, args)
	if err != nil {
		return err
	}
	var pcap *os.File
	if f.pcap != "" {
		if pcap, err = os.OpenFile(f.pcap, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644); err != nil {
			return fail(exitFailure, err, "name a file that does not exist yet")
		}
		defer pcap.Close()
	}
	measured, err := f.measure(ctx, a.stdout, target, settings)
	if pcap != nil {
		if werr := writePackets(pcap, settings.Plan, measured); err == nil {
			err = werr
		}
		if len(measured) == 0 {
			os.Remove(f.pcap)
		}
	}
	return err
}

// measure makes the measurements and tells each as it ends.
func (f *connectFlags) measure(ctx context.Context, w io.Writer, target measure.Target, settings measure.Settings) ([]measure.Measurement, error) {
	if !f.json {
		settings.Watch = func(attempts []tfo.Evidence) {
			// A failed write shows again when the verdict is written.
			_ = report.TraceAttempt(w, settings.Plan, attempts, len(attempts)-1)
		}
	}
	r, err := measure.NewRunner(settings, tfo.Config{Concurrency: 1, NetNS: tfo.NetNS(f.netns)})
	if err != nil && f.netns != "" {
		return nil, fail(exitFailure, err, hintNetNS)
	}
	if err != nil {
		return nil, err
	}
	defer r.Stop()
	context.AfterFunc(ctx, r.Stop)
	var all []measure.Measurement
	for i := range f.repeat {
		if !f.json {
			if i > 0 {
				fmt.Fprintln(w)
			}
			if err := report.TraceTarget(w, settings.Plan, target); err != nil {
				return all, err
			}
		}
		done := make(chan measure.Measurement, 1)
		r.Submit(target, nil, func(m measure.Measurement) { done <- m })
		m := <-done
		if m.Outcome != measure.OutcomeMeasured {
			return all, fail(exitInterrupted, errors.New("interrupted"))
		}
		all = append(all, m)
		if f.json {
			_, err = w.Write(dataset.AppendJSON(nil, dataset.ChunkKey{Probe: "local"}, &m))
		} else {
			err = report.TraceVerdict(w, settings.Plan, m)
		}
		if err != nil {
			return all, err
		}
	}
	if f.json {
		return all, nil
	}
	if f.repeat > 1 {
		fmt.Fprintf(w, "\n%s\n", tally(all))
	}
	if c := r.Capture(); f.pcap != "" && c.Absent != "" {
		fmt.Fprintf(w, "\nno packets in %s: %s\n", f.pcap, c.Absent)
	} else if c.Drops > 0 {
		fmt.Fprintf(w, "\nthe capture lost %d packets: what is not marked as seen may have been there\n", c.Drops)
	}
	return all, nil
}

// tally counts the verdicts of a repeated measurement.
func tally(all []measure.Measurement) string {
	counts := map[measure.Verdict]int{}
	for _, m := range all {
		counts[m.Verdict]++
	}
	var parts []string
	for _, v := range measure.Verdicts() {
		if n := counts[v]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", v, n))
		}
	}
	return fmt.Sprintf("%d measurements: %s", len(all), strings.Join(parts, ", "))
}

// writePackets writes what was seen on the wire, each attempt's finding and the
// verdict as comments.
func writePackets(w io.Writer, plan measure.Plan, all []measure.Measurement) error {
	var attempts []tfo.Evidence
	var comments, about []string
	for _, m := range all {
		shown, reasons := measure.Explain(plan, m.Attempts)
		verdict := fmt.Sprintf("verdict: %s; because %s", m.Verdict, strings.Join(reasons, "; "))
		about = append(about, verdict)
		for i := range m.Attempts {
			attempts = append(attempts, m.Attempts[i])
			comments = append(comments, shown[i]+"\n"+verdict)
		}
	}
	return tfo.WritePCAPNG(w, strings.Join(about, "\n"), attempts, func(i int) string { return comments[i] })
}

func (f *connectFlags) settings() (measure.Settings, error) {
	s := measure.Settings{Timeout: f.timeout}
	var err error
	if s.Plan, err = measure.ParsePlan(f.plan); err != nil {
		return s, fail(exitUsage, err)
	}
	if f.noCook {
		if s.Plan != measure.Standard {
			return s, fail(exitUsage, errors.New("--no-cookie is a plan of its own: leave out --plan"))
		}
		s.Plan = measure.Cookieless
	}
	if s.Payload, s.Bytes, err = measure.LoadPayload(f.payload); err != nil {
		return s, fail(exitUsage, err)
	}
	switch {
	case f.v4 && f.v6:
		return s, fail(exitUsage, errors.New("--ipv4 and --ipv6 exclude each other"))
	case f.timeout <= 0:
		return s, fail(exitUsage, fmt.Errorf("--timeout %v is no time", f.timeout))
	case f.repeat < 1:
		return s, fail(exitUsage, fmt.Errorf("--repeat %d measures nothing", f.repeat))
	}
	return s, nil
}

// target finds out what to connect to: an address with a port, and the name it
// came from.
func (f *connectFlags) target(ctx context.Context, args []string) (measure.Target, error) {
	host := f.server
	switch {
	case len(args) == 1 && host != "":
		return measure.Target{}, fail(exitUsage, fmt.Errorf("two hosts: %s and --server %s", args[0], host))
	case len(args) == 1:
		host = args[0]
	case host == "":
		return measure.Target{}, fail(exitUsage, errors.New("no host to connect to"), "probe connect www.example.com")
	}
	t := measure.Target{Port: f.port}
	if h, p, err := net.SplitHostPort(host); err == nil {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return t, fail(exitUsage, fmt.Errorf("port %q is not a number from 1 to 65535", p))
		}
		host, t.Port = h, uint16(n)
	}
	if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		t.Addr = addr.Unmap()
		if f.v4 && t.Addr.Is6() || f.v6 && t.Addr.Is4() {
			return t, fail(exitUsage, fmt.Errorf("%v is not of the family asked for", t.Addr))
		}
		return t, nil
	}
	network := "ip"
	switch {
	case f.v4:
		network = "ip4"
	case f.v6:
		network = "ip6"
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, network, host)
	if err != nil {
		return t, fail(exitFailure, err, "check the name, or give an address")
	}
	t.Hostname, t.Addr = host, addrs[0].Unmap()
	return t, nil
}
