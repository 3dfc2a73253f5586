package tfo

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine is what a machine says of itself: facts, with NotKnown, NotTried or
// an empty string where nothing could be read. Sysctls are those of the network
// namespace looked at.
type Machine struct {
	Kernel   string `json:"kernel"` // uname release
	Arch     string `json:"arch"`
	FastOpen int    `json:"tcp_fastopen"` // bits
	KeySet   Tri    `json:"tcp_fastopen_key_set"`

	BlackholeTimeoutS int   `json:"tcp_fastopen_blackhole_timeout_sec"`
	BlackholePauses   int64 `json:"blackhole_pauses"` // counted so far

	MPTCP         int `json:"mptcp_enabled"`
	Timestamps    int `json:"tcp_timestamps"`
	NoMetricsSave int `json:"tcp_no_metrics_save"`
	Syncookies    int `json:"tcp_syncookies"`
	LinearSYNs    int `json:"tcp_syn_linear_timeouts"`
	Somaxconn     int `json:"somaxconn"`
	LowestPort    int `json:"ip_unprivileged_port_start"`

	UserNamespace bool     `json:"user_namespace"` // not the initial one
	Missing       []string `json:"capabilities_missing"`
	CanClear      Tri      `json:"can_delete_cookies"`
	CanCapture    Tri      `json:"can_capture"`

	Cache    CookieCache `json:"cookie_cache"`
	Firewall Firewall    `json:"firewall"`
	Proxies  []string    `json:"proxy_variables"` // names of environment variables, not their values
	WayOut   WayOut      `json:"way_out"`
	Clock    Clock       `json:"clock"`

	Options map[string]Tri `json:"socket_options"` // tried on a socket, by name
	InfoLen int            `json:"tcp_info_len"`
}

// MarshalText makes JSON say the word.
func (t Tri) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// ReadMachine reads the facts as they show from a network namespace.
func ReadMachine(ns NetNS) (Machine, error) {
	m := Machine{Arch: runtime.GOARCH, Proxies: []string{}}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	m.UserNamespace = inUserNamespace()
	m.Missing = missingCapabilities()
	m.Clock = readClock()
	for _, name := range []string{"http_proxy", "https_proxy", "all_proxy"} {
		for _, v := range []string{name, strings.ToUpper(name)} {
			if os.Getenv(v) != "" {
				m.Proxies = append(m.Proxies, v)
			}
		}
	}
	err := ns.Do(func() error {
		m.FastOpen = sysctl("tcp_fastopen")
		m.KeySet = keySet()
		m.BlackholeTimeoutS = sysctl("tcp_fastopen_blackhole_timeout_sec")
		m.BlackholePauses = NotKnown
		if f, err := openMIB(); err == nil {
			if mib, err := f.read(); err == nil {
				m.BlackholePauses = mib[CountBlackhole]
			}
			f.Close()
		}
		m.MPTCP = sysctlAt("mptcp/enabled")
		m.Timestamps = sysctl("tcp_timestamps")
		m.NoMetricsSave = sysctl("tcp_no_metrics_save")
		m.Syncookies = sysctl("tcp_syncookies")
		m.LinearSYNs = sysctl("tcp_syn_linear_timeouts")
		m.Somaxconn = sysctlAt("core/somaxconn")
		m.LowestPort = sysctl("ip_unprivileged_port_start")
		m.CanClear = canClear()
		m.CanCapture = canCapture()
		m.Cache = readCookieCache()
		m.Firewall = readFirewall()
		m.WayOut = readWayOut()
		m.Options, m.InfoLen = tryOptions()
		return nil
	})
	return m, err
}

// sysctlAt reads a number below /proc/sys/net.
func sysctlAt(name string) int {
	b, err := os.ReadFile("/proc/sys/net/" + name)
	if err != nil {
		return NotKnown
	}
	v, err := strconv.Atoi(string(bytes.TrimSpace(b)))
	if err != nil {
		return NotKnown
	}
	return v
}

// keySet tells whether the namespace has a key. The kernel shows zeros until
// the first TFO listener makes it up a key.
func keySet() Tri {
	b, err := os.ReadFile("/proc/sys/net/ipv4/tcp_fastopen_key")
	if err != nil {
		return NotTried // only root may read it
	}
	keys, err := ParseKeys(string(b))
	if err != nil {
		return NotTried
	}
	if keys[0] == (Key{}) {
		return No
	}
	return Yes
}

// inUserNamespace: only the initial user namespace maps every id to itself.
func inUserNamespace() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	if errors.Is(err, fs.ErrNotExist) {
		return false // a kernel without user namespaces
	}
	return !slices.Equal(strings.Fields(string(b)), []string{"0", "0", "4294967295"})
}

// capabilities that some part of the probe needs, by what it costs to lack
// them.
var capabilities = []struct {
	number int
	name   string
}{
	{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"},
	{unix.CAP_NET_RAW, "CAP_NET_RAW"},
	{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"},
	{unix.CAP_NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE"},
}

func missingCapabilities() []string {
	var data [2]unix.CapUserData
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return nil
	}
	missing := []string{}
	for _, c := range capabilities {
		if data[c.number/32].Effective&(1<<(c.number%32)) == 0 {
			missing = append(missing, c.name)
		}
	}
	return missing
}

// canCapture opens a packet socket, which sees nothing: it is bound to no
// protocol. A capability held in a user namespace may not be enough for it.
func canCapture() Tri {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return No
	}
	unix.Close(fd)
	return Yes
}

// Clock is what the kernel knows of the time.
type Clock struct {
	Synchronised Tri   `json:"synchronised"`
	MaxErrorUS   int64 `json:"max_error_us"` // as the kernel estimates it; NotKnown when it does not
}

// readClock asks for the state of the clock and changes nothing (adjtimex(2)).
func readClock() Clock {
	var tx unix.Timex
	state, err := unix.Adjtimex(&tx)
	switch {
	case err != nil:
		return Clock{Synchronised: NotTried, MaxErrorUS: NotKnown}
	case state == unix.TIME_ERROR || tx.Status&unix.STA_UNSYNC != 0:
		return Clock{Synchronised: No, MaxErrorUS: NotKnown}
	}
	return Clock{Synchronised: Yes, MaxErrorUS: int64(tx.Maxerror)}
}

// WayOut is the interface that packets to the internet leave through.
type WayOut struct {
	Interface string `json:"interface"` // empty without a default route for IPv4
	MTU       int    `json:"mtu"`
	Tunnel    bool   `json:"tunnel"`
}

// readWayOut must run in the namespace.
func readWayOut() WayOut {
	w := WayOut{MTU: NotKnown}
	f, err := os.Open("/proc/thread-self/net/route")
	if err != nil {
		return w
	}
	defer f.Close()
	// Iface Destination Gateway Flags RefCnt Use Metric Mask ...
	for s := bufio.NewScanner(f); s.Scan(); {
		if c := strings.Fields(s.Text()); len(c) >= 8 && c[1] == "00000000" && c[7] == "00000000" {
			w.Interface = c[0]
			break
		}
	}
	if w.Interface == "" {
		return w
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return w
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(w.Interface)
	if err != nil {
		return w
	}
	if unix.IoctlIfreq(fd, unix.SIOCGIFMTU, ifr) == nil {
		w.MTU = int(ifr.Uint32())
	}
	if unix.IoctlIfreq(fd, unix.SIOCGIFHWADDR, ifr) == nil {
		w.Tunnel = isTunnel(ifr.Uint16()) // the family of the hardware address
	}
	return w
}

// isTunnel tells from the type of an interface's hardware whether it is none.
func isTunnel(hardware uint16) bool {
	switch hardware {
	case unix.ARPHRD_NONE, unix.ARPHRD_PPP, unix.ARPHRD_TUNNEL, unix.ARPHRD_TUNNEL6, unix.ARPHRD_SIT, unix.ARPHRD_IPGRE:
		return true
	}
	return false
}
