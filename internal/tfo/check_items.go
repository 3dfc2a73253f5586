package tfo

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// assessMachine weighs the facts, in the order a person asks.
func assessMachine(m Machine, test SelfTest) []CheckItem {
	items := []CheckItem{
		itemKernel(&m), itemFastOpen(&m), itemSelfTest(&test), itemBlackhole(&m), itemKey(&m),
	}
	items = append(items, itemsCapabilities(&m)...)
	return append(items,
		itemCapture(&m), itemClear(&m), itemCache(&m), itemMetricsSave(&m), itemTimestamps(&m), itemMPTCP(&m), itemSyncookies(&m), itemSomaxconn(&m),
		itemFirewall(&m), itemProxy(&m), itemWayOut(&m), itemClock(&m))
}

func itemKernel(m *Machine) CheckItem {
	i := CheckItem{ID: "kernel", Name: "kernel", Weight: WeightOK, Value: m.Kernel + " " + m.Arch}
	if m.FastOpen == NotKnown {
		i.Weight, i.Cost = WeightUnfit, "this kernel has no TCP Fast Open"
		i.Hint = "use a Linux kernel of 3.7 or later, better 5.5 or later"
	}
	return i
}

func itemFastOpen(m *Machine) CheckItem {
	i := CheckItem{ID: "tcp_fastopen", Name: "tcp_fastopen", Weight: WeightOK}
	if m.FastOpen == NotKnown {
		i.Weight, i.Value = WeightUnfit, "not there"
		return i
	}
	on := func(bit int, yes, no string) string {
		if m.FastOpen&bit != 0 {
			return yes
		}
		return no
	}
	words := []string{on(SysctlClient, "client on", "client off"), on(SysctlServer, "listeners on", "listeners off")}
	for _, w := range []string{
		on(SysctlClientNoCookie, "client sends data without cookies", ""),
		on(SysctlServerNoCookie, "listeners take data without cookies", ""),
		on(SysctlServerAll, "every listener has it", ""),
	} {
		if w != "" {
			words = append(words, w)
		}
	}
	i.Value = fmt.Sprintf("%#x: %s", m.FastOpen, strings.Join(words, ", "))
	want := m.FastOpen
	switch {
	case m.FastOpen&SysctlClient == 0:
		i.Weight, i.Cost = WeightUnfit, "no connection from here can use Fast Open"
		want |= SysctlClient
	case m.FastOpen&SysctlClientNoCookie != 0:
		i.Weight, i.Cost = WeightUnfit, "the kernel never asks for a cookie: every target would look as if it gave none"
		want &^= SysctlClientNoCookie
	case m.FastOpen&SysctlServer == 0:
		i.Weight, i.Cost = WeightNote, "listeners here get no Fast Open, and no error says so"
		want |= SysctlServer
	case m.FastOpen&SysctlServerNoCookie != 0:
		i.Weight, i.Cost = WeightNote, "listeners here give no cookies and take what they should refuse"
		want &^= SysctlServerNoCookie
	}
	if want != m.FastOpen {
		i.Hint = setSysctlHint("net.ipv4.tcp_fastopen", fmt.Sprintf("%#x", want))
	}
	return i
}

func setSysctlHint(name, value string) string { return "sysctl -w " + name + "=" + value }

func itemSelfTest(t *SelfTest) CheckItem {
	i := CheckItem{ID: "self_test", Name: "self-test", Weight: WeightOK}
	var passed, failed []string
	for _, f := range t.Families {
		if f.Failed == "" {
			passed = append(passed, f.Family)
		} else {
			failed = append(failed, f.Family+": "+f.Failed)
		}
	}
	switch {
	case len(t.Families) == 0:
		i.Weight, i.Value = WeightLimit, "could not be made"
		i.Cost = "that Fast Open works on this kernel is not proven: " + strings.Join(t.Reasons, "; ")
		i.Hint = "run as root, or allow unprivileged user namespaces"
	case len(passed) == 0:
		i.Weight, i.Value = WeightUnfit, "failed: "+strings.Join(failed, "; ")
		i.Cost = "what is measured here says more about this machine than about its targets"
	case len(failed) > 0:
		i.Weight, i.Value = WeightLimit, fmt.Sprintf("passed over %s, failed over %s", strings.Join(passed, ", "), strings.Join(failed, "; "))
		i.Cost = "measure only the family that passed"
	default:
		i.Value = fmt.Sprintf("passed over %s, in a %s", strings.Join(passed, " and "), t.Place)
		if t.Place == PlaceLoopback {
			i.Value = fmt.Sprintf("passed over %s, over %s", strings.Join(passed, " and "), t.Place)
		}
	}
	return i
}

func itemBlackhole(m *Machine) CheckItem {
	i := CheckItem{ID: "blackhole", Name: "blackhole pause", Weight: WeightOK}
	switch {
	case m.BlackholeTimeoutS == NotKnown:
		i.Weight, i.Value = WeightNote, "this kernel has none"
		i.Cost = "kernels before 4.12 stop Fast Open to a destination by other rules"
	case m.BlackholeTimeoutS == 0:
		i.Value = "off"
	default:
		i.Weight = WeightLimit
		i.Value = fmt.Sprintf("%d s, used %d times since the namespace was made", m.BlackholeTimeoutS, max(0, m.BlackholePauses))
		i.Cost = "one bad target switches Fast Open off for all others, without a word"
		i.Hint = setSysctlHint("net.ipv4.tcp_fastopen_blackhole_timeout_sec", "0")
	}
	return i
}

func itemKey(m *Machine) CheckItem {
	i := CheckItem{ID: "key", Name: "tcp_fastopen_key", Weight: WeightOK}
	switch m.KeySet {
	case Yes:
		i.Value = "set"
	case No:
		i.Weight, i.Value = WeightNote, "not set"
		i.Cost = "the first listener makes the kernel make one up; its cookies die with this boot"
		i.Hint = "give listeners a key of their own: probe listen --key-file FILE"
	default:
		i.Weight, i.Value = WeightNote, "not known: only root may read it"
	}
	return i
}

func itemsCapabilities(m *Machine) []CheckItem {
	if m.Missing == nil {
		return []CheckItem{{ID: "capabilities", Name: "capabilities", Weight: WeightNote, Value: "not known"}}
	}
	if len(m.Missing) == 0 && !m.UserNamespace {
		return []CheckItem{{ID: "capabilities", Name: "capabilities", Weight: WeightOK, Value: "all there"}}
	}
	var items []CheckItem
	missing := func(name string) bool { return slices.Contains(m.Missing, name) }
	add := func(name string, w Weight, cost, hint string) {
		if missing(name) {
			items = append(items, CheckItem{ID: "capability." + strings.ToLower(name), Name: "capabilities", Weight: w, Value: name + " missing", Cost: cost, Hint: hint})
		}
	}
	add("CAP_NET_RAW", WeightNote, "no forged cookies, no unknown options; what it costs on the wire is said below", grantHint)
	add("CAP_NET_ADMIN", WeightNote, "sysctls cannot be set from here; what it costs for cookies is said below", grantHint)
	add("CAP_SYS_ADMIN", WeightNote, "no network namespaces: the lab needs a user namespace", "")
	if m.LowestPort == NotKnown || m.LowestPort > 1 {
		add("CAP_NET_BIND_SERVICE", WeightNote, fmt.Sprintf("no listener below port %d", max(m.LowestPort, 1024)), "")
	}
	if m.UserNamespace {
		items = append(items, CheckItem{ID: "user_namespace", Name: "user namespace", Weight: WeightNote, Value: "not the initial one",
			Cost: "capabilities held here count for less than their names say"})
	}
	if len(items) == 0 {
		items = append(items, CheckItem{ID: "capabilities", Name: "capabilities", Weight: WeightOK, Value: "all that are needed"})
	}
	return items
}

const grantHint = "run as root, or once: setcap cap_net_admin,cap_net_raw+ep \"$(command -v probe)\""

func itemCapture(m *Machine) CheckItem {
	i := CheckItem{ID: "capture", Name: "capture packets", Weight: WeightOK, Value: "yes"}
	if m.CanCapture != Yes {
		i.Weight, i.Value = WeightLimit, "no"
		i.Cost = "no evidence from the wire: mirrored options, odd cookies and rewritten numbers stay unseen"
		i.Hint = grantHint
	}
	return i
}

func itemClear(m *Machine) CheckItem {
	i := CheckItem{ID: "delete_cookies", Name: "delete cookies", Weight: WeightOK, Value: "yes"}
	switch m.CanClear {
	case No:
		i.Weight, i.Value = WeightLimit, "no"
		i.Cost = "a cookie from before cannot be taken away: a first request to such a target is none"
		i.Hint = "run with CAP_NET_ADMIN in the initial user namespace"
	case NotTried:
		i.Weight, i.Value = WeightLimit, "not known: the cookie cache does not answer"
		i.Cost = "cookies can be neither read nor deleted"
	}
	return i
}

func itemCache(m *Machine) CheckItem {
	c := m.Cache
	i := CheckItem{ID: "cookie_cache", Name: "cookie cache", Weight: WeightOK}
	size := fmt.Sprintf("an estimated %d slots (by %s), so %d entries at most", c.Slots, c.SlotsFrom, c.Most())
	if c.Entries == NotKnown {
		i.Weight, i.Value, i.Cost = WeightUnfit, size+"; it cannot be read", "a refused cookie cannot be told from lost data"
		return i
	}
	i.Value = fmt.Sprintf("%d entries here, %d with a cookie; %s", c.Entries, c.Cookies, size)
	if c.Entries > c.Comfortable() {
		i.Weight = WeightNote
		i.Cost = "entries push each other out: ask for a cookie and use it back to back"
	}
	return i
}

func itemMetricsSave(m *Machine) CheckItem {
	i := CheckItem{ID: "no_metrics_save", Name: "tcp_no_metrics_save", Weight: WeightOK}
	switch m.NoMetricsSave {
	case NotKnown:
		i.Value = "not known"
	case 0:
		i.Value = "0: plain connections take room in the cookie cache as well"
	default:
		i.Value = fmt.Sprintf("%d: cookies are cached all the same", m.NoMetricsSave)
	}
	return i
}

func itemTimestamps(m *Machine) CheckItem {
	i := CheckItem{ID: "timestamps", Name: "tcp_timestamps", Weight: WeightOK, Value: fmt.Sprint(m.Timestamps)}
	switch m.Timestamps {
	case NotKnown:
		i.Value = "not known"
	case 0:
		i.Weight, i.Value, i.Cost = WeightNote, "0: off", "SYNs from here are not like those of most machines"
		i.Hint = setSysctlHint("net.ipv4.tcp_timestamps", "1")
	case 1:
		i.Value = "1: on"
	}
	return i
}

func itemMPTCP(m *Machine) CheckItem {
	i := CheckItem{ID: "mptcp", Name: "MPTCP", Weight: WeightOK, Value: "not in this kernel"}
	switch m.MPTCP {
	case 0:
		i.Value = "off"
	case 1:
		i.Value = "on; sockets of the probe are plain TCP and do not use it"
	}
	return i
}

func itemSyncookies(m *Machine) CheckItem {
	i := CheckItem{ID: "syncookies", Name: "tcp_syncookies", Weight: WeightOK, Value: fmt.Sprint(m.Syncookies)}
	switch m.Syncookies {
	case NotKnown:
		i.Value = "not known"
	case 0:
		i.Value = "0: off"
	case 1:
		i.Value = "1: only when a listener is flooded"
	case 2:
		i.Weight, i.Value, i.Cost = WeightNote, "2: always", "no listener here has Fast Open, and none can look at a SYN"
		i.Hint = setSysctlHint("net.ipv4.tcp_syncookies", "1")
	}
	return i
}

// comfortableQueue is a queue of pending TFO connections for 5,000 connections
// per second with round trips of 200 ms.
const comfortableQueue = 1000

func itemSomaxconn(m *Machine) CheckItem {
	i := CheckItem{ID: "somaxconn", Name: "somaxconn", Weight: WeightOK, Value: fmt.Sprintf("%d pending Fast Open connections per listener at most", m.Somaxconn)}
	switch {
	case m.Somaxconn == NotKnown:
		i.Value = "not known"
	case m.Somaxconn < comfortableQueue:
		i.Weight, i.Cost = WeightNote, "a busy listener here gives no cookies when that is full, as if it had no Fast Open"
		i.Hint = setSysctlHint("net.core.somaxconn", "4096")
	}
	return i
}

func itemFirewall(m *Machine) CheckItem {
	f := m.Firewall
	i := CheckItem{ID: "firewall", Name: "local firewall", Weight: WeightOK}
	var signs []string
	if f.Read == Yes {
		signs = append(signs, fmt.Sprintf("%d rules on what leaves", f.OutputRules))
		if f.OutputDrops {
			signs = append(signs, "what no rule lets pass is dropped")
		}
	} else {
		i.Weight = WeightNote
		signs = append(signs, "not known: the rules cannot be read from here")
	}
	if len(f.LegacyTables) > 0 {
		i.Weight = WeightNote
		signs = append(signs, "older iptables in use ("+strings.Join(f.LegacyTables, ", ")+"), not read")
	}
	if f.OutputDrops {
		i.Weight, i.Cost = WeightNote, "targets on ports it does not let pass would look offline"
	}
	var limits []string
	if f.OptionRules > 0 {
		signs = append(signs, fmt.Sprintf("%d about Fast Open options", f.OptionRules))
		limits = append(limits, "this machine itself meddles with Fast Open options")
	}
	if len(f.Diversions) > 0 {
		signs = append(signs, "TCP may be diverted ("+strings.Join(f.Diversions, ", ")+")")
		limits = append(limits, "a local proxy may answer in the place of targets")
	}
	if len(limits) > 0 {
		i.Weight, i.Cost = WeightLimit, strings.Join(limits, "; ")
		i.Hint = "nft list ruleset"
	}
	i.Value = strings.Join(signs, ", ")
	return i
}

func itemProxy(m *Machine) CheckItem {
	i := CheckItem{ID: "proxy", Name: "proxy variables", Weight: WeightOK, Value: "none"}
	if len(m.Proxies) > 0 {
		i.Weight, i.Value = WeightNote, strings.Join(m.Proxies, ", ")
		i.Cost = "the probe does not use them; where only the proxy may connect, every target is offline"
	}
	return i
}

func itemWayOut(m *Machine) CheckItem {
	w := m.WayOut
	i := CheckItem{ID: "way_out", Name: "way out", Weight: WeightOK}
	switch {
	case w.Interface == "":
		i.Weight, i.Value, i.Cost = WeightLimit, "no default route for IPv4", "only targets with a route of their own can be reached"
	case w.Tunnel:
		i.Weight, i.Value = WeightNote, fmt.Sprintf("%s, a tunnel, MTU %d", w.Interface, w.MTU)
		i.Cost = "the path that is measured begins at the far end of the tunnel"
	default:
		i.Value = fmt.Sprintf("%s, MTU %d", w.Interface, w.MTU)
	}
	return i
}

func itemClock(m *Machine) CheckItem {
	i := CheckItem{ID: "clock", Name: "clock", Weight: WeightOK}
	switch m.Clock.Synchronised {
	case Yes:
		i.Value = fmt.Sprintf("synchronised, within %v", (time.Duration(m.Clock.MaxErrorUS) * time.Microsecond).Round(time.Millisecond))
	case No:
		i.Weight, i.Value = WeightLimit, "not synchronised"
		i.Cost = "times in the dataset cannot be compared with those of other probes; durations are right"
		i.Hint = "run chrony, ntpd or systemd-timesyncd"
	default:
		i.Weight, i.Value = WeightNote, "not known"
	}
	return i
}
