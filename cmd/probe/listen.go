package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"tfofleet/internal/tfo"
)

type listenFlags struct {
	key      string
	keyFile  string
	qlen     int
	noCookie bool
	allow    []string
	json     bool
}

func (a *app) listenCommand() *cobra.Command {
	f := &listenFlags{}
	var port uint16
	cmd := &cobra.Command{
		Use:   "listen [ADDR:]PORT",
		Short: "Accept TCP Fast Open connections and show what arrived",
		Long: `Accept TCP Fast Open connections, answer them, and show what arrived: the SYN
and its options, the cookie and what it is worth, the data in the SYN, whether
the answer left before the handshake was complete.

HTTP, TLS and DNS over TCP get a small answer of their kind, everything else a
line. Ctrl-C ends it, once the connections under way are over.`,
		Example: `  probe listen 8080
  probe listen 192.0.2.1:443 --key-file tfo.key
  probe listen [2001:db8::1]:80 --json`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			where := ""
			switch {
			case len(args) == 1 && !cmd.Flags().Changed("port"):
				where = args[0]
			case len(args) == 1:
				where = bracketed(args[0]) + ":" + strconv.Itoa(int(port))
			case cmd.Flags().Changed("port"):
				where = strconv.Itoa(int(port))
			default:
				return fail(exitUsage, errors.New("no port to listen on"), "for example: probe listen 8080")
			}
			at, err := parseListen(where)
			if err != nil {
				return err
			}
			return a.listen(cmd.Context(), at, f)
		},
	}
	cmd.Flags().Uint16VarP(&port, "port", "p", 0, "port, instead of the argument's")
	cmd.Flags().StringVar(&f.key, "key", "", "`KEY[,BACKUP]` that makes the cookies: 32 hexadecimal digits each")
	cmd.Flags().StringVar(&f.keyFile, "key-file", "", "`FILE` with the key and, on a second line, the backup key; nobody else may read it")
	cmd.Flags().IntVar(&f.qlen, "qlen", 0, "pending Fast Open connections; 0 = as many as the kernel allows")
	cmd.Flags().BoolVar(&f.noCookie, "no-cookie-required", false, "take data without a cookie, and give none")
	cmd.Flags().StringSliceVar(&f.allow, "allow", nil, "`CIDR` of the sources that are answered; may be given again (default all)")
	cmd.Flags().BoolVar(&f.json, "json", false, "one JSON object per line")
	return cmd
}

// bracketed puts an IPv6 address into brackets, if it is not.
func bracketed(host string) string {
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		return "[" + host + "]"
	}
	return host
}

// parseListen reads [ADDR:]PORT. Without an address it is the unspecified one
// of both families.
func parseListen(s string) (netip.AddrPort, error) {
	host, port := "", strings.TrimPrefix(s, ":")
	if i := strings.LastIndexByte(s, ':'); i > 0 {
		host, port = s[:i], s[i+1:]
	}
	bad := func(what string) (netip.AddrPort, error) {
		return netip.AddrPort{}, fail(exitUsage, errors.New(what), "want 8080, 192.0.2.1:8080 or [2001:db8::1]:8080")
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return bad(fmt.Sprintf("%q is not a port", port))
	}
	addr := netip.IPv6Unspecified()
	if host != "" {
		trimmed := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
		if addr, err = netip.ParseAddr(trimmed); err != nil || addr.Is6() == (trimmed == host) {
			return bad(fmt.Sprintf("%q is not an address", host))
		}
	}
	return netip.AddrPortFrom(addr, uint16(p)), nil
}

func (f *listenFlags) sources() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range f.allow {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			addr, err := netip.ParseAddr(s)
			if err != nil {
				return nil, fail(exitUsage, fmt.Errorf("--allow %q is neither a block such as 192.0.2.0/24 nor an address", s))
			}
			p = netip.PrefixFrom(addr, addr.BitLen())
		}
		out = append(out, p)
	}
	return out, nil
}

// listen runs a listener until ctx is done or nobody reads its output.
func (a *app) listen(ctx context.Context, at netip.AddrPort, f *listenFlags) error {
	cfg := tfo.ListenConfig{Addr: at, Queue: f.qlen, NoCookie: f.noCookie}
	var err error
	if cfg.Keys, err = f.keys(); err != nil {
		return err
	}
	if cfg.Allow, err = f.sources(); err != nil {
		return err
	}
	if f.qlen < 0 {
		return fail(exitUsage, fmt.Errorf("--qlen %d: a queue holds one connection at least", f.qlen))
	}
	if f.key != "" {
		a.say("warning: everybody on this machine can see --key in the list of processes")
		a.say("hint: --key-file FILE keeps it to yourself")
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	out := &listenOutput{format: listenText{warn: a}, nobodyReads: stop}
	if f.json {
		out.format = listenJSON{}
	}
	cfg.Arrived, cfg.Alarm = out.arrived, out.alarm
	before, err := tfo.ReadMIB("")
	if err != nil {
		return err
	}
	l, err := listenOn(&cfg)
	if err != nil {
		return fail(exitFailure, err, listenHints(err)...)
	}
	out.begin(a.stdout, l)
	<-ctx.Done()
	if err := l.Close(); err != nil {
		return err
	}
	after, err := tfo.ReadMIB("")
	if err != nil {
		return err
	}
	return out.end(after.Since(before))
}

// listenOn listens on both families where it can, on IPv4 alone where there is
// no IPv6 and no address was asked for.
func listenOn(cfg *tfo.ListenConfig) (*tfo.Listener, error) {
	l, err := tfo.Listen(*cfg)
	if cfg.Addr.Addr() == netip.IPv6Unspecified() && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)) {
		cfg.Addr = netip.AddrPortFrom(netip.IPv4Unspecified(), cfg.Addr.Port())
		return tfo.Listen(*cfg)
	}
	return l, err
}

func listenHints(err error) []string {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return []string{"another program listens there: ss -ltnp shows which"}
	case errors.Is(err, unix.EACCES):
		return []string{"ports below 1024 take root or CAP_NET_BIND_SERVICE; try one above"}
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return []string{"the address is not one of this machine: ip address shows which are"}
	}
	return nil
}
