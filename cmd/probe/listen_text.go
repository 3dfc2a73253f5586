package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"tfofleet/internal/tfo"
)

// listenText tells each connection as a person reads a packet trace: "<" came
// in, ">" left, "·" is the kernel's word, "=" is what it comes to.
type listenText struct{ warn *app }

func (listenText) listening(w io.Writer, l *tfo.Listener) {
	fmt.Fprintf(w, "listening on %s, up to %d pending Fast Open connections\n", l.Addr(), l.Queue())
}

func (listenText) arrival(w io.Writer, n int, a *tfo.Arrival) {
	row := func(sign, what, format string, args ...any) {
		fmt.Fprintf(w, "   %s %-9s %s\n", sign, what, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(w, "\n%d  %s  %s to %s\n", n, a.Accepted.Format("15:04:05.000"), a.Peer, a.Local)
	row("<", "SYN", "%s", synText(a))
	row("·", "kernel", "%s", kernelText(a))
	if a.RequestBytes > 0 {
		row("<", "request", "%s", requestText(a))
	}
	if a.ResponseBytes > 0 {
		row(">", "answer", "%s", answerText(a))
	}
	row("·", "end", "%s", endText(a))
	row("=", "shows", "%s", showsText(a))
}

func synText(a *tfo.Arrival) string {
	s := &a.SYN
	if s.Raw == nil {
		return "not kept by the kernel"
	}
	o := &s.Options
	words := []string{optionText(a)}
	if a.SynBytes > 0 {
		words = append(words, fmt.Sprintf("%d bytes of data", a.SynBytes))
	} else {
		words = append(words, "no data")
	}
	if o.MSS > 0 {
		words = append(words, fmt.Sprintf("mss %d", o.MSS))
	}
	if o.SACKPermitted {
		words = append(words, "sack")
	}
	if o.Timestamps {
		words = append(words, "timestamps")
	}
	if o.WindowScale >= 0 {
		words = append(words, fmt.Sprintf("wscale %d", o.WindowScale))
	}
	if s.Flags&0xc0 != 0 {
		words = append(words, "ecn")
	}
	if o.Malformed {
		words = append(words, "malformed options")
	}
	return strings.Join(append(words, fmt.Sprintf("ttl %d", s.TTL)), ", ")
}

func optionText(a *tfo.Arrival) string {
	o := &a.SYN.Options
	opt := o.FastOpen()
	several := ""
	if n := o.TFO.Count + o.Exp.Count; n > 1 {
		several = fmt.Sprintf(", the last of %d", n)
	}
	switch {
	case opt.Count == 0:
		return "no TFO option"
	case len(opt.Cookie) == 0:
		return fmt.Sprintf("TFO kind %d, cookie request%s", o.FastOpenKind, several)
	}
	return fmt.Sprintf("TFO kind %d, cookie %x%s", o.FastOpenKind, opt.Cookie, several)
}

// kernelText is what the kernel made of the SYN.
func kernelText(a *tfo.Arrival) string {
	child := map[tfo.Tri]string{
		tfo.Yes: "a TFO child", tfo.No: "an ordinary connection", tfo.NotTried: "TFO child or not: this kernel does not tell",
	}[a.Child]
	var bits []string
	if a.Options()&tfo.OptTFOChild != 0 {
		bits = append(bits, "TFO_CHILD")
	}
	if a.Options()&tfo.OptSynData != 0 {
		bits = append(bits, "SYN_DATA")
	}
	if len(bits) > 0 {
		child += " (" + strings.Join(bits, ", ") + ")"
	}
	switch {
	case a.SynTaken > 0:
		child += fmt.Sprintf(", %d bytes of SYN data taken", a.SynTaken)
	case a.SynBytes > 0:
		child += ", SYN data not taken"
	}
	switch {
	case a.HandshakeNS > 0:
		child += fmt.Sprintf(", handshake complete %s after the accept", since(a.HandshakeNS))
	case a.HandshakeNS == tfo.NotKnown:
		child += ", handshake never complete"
	}
	return child
}

func requestText(a *tfo.Arrival) string {
	if a.RequestNS == tfo.NotKnown {
		return fmt.Sprintf("%d bytes, not a whole request", a.RequestBytes)
	}
	kind := map[tfo.RequestKind]string{tfo.RequestHTTP: "HTTP", tfo.RequestTLS: "TLS", tfo.RequestDNS: "DNS", tfo.RequestOther: "of no known kind"}[a.RequestKind]
	return fmt.Sprintf("%s, %d bytes, %s after the accept", kind, a.RequestBytes, since(a.RequestNS))
}

func answerText(a *tfo.Arrival) string {
	when := map[tfo.Tri]string{
		tfo.Yes: "before the client's ACK", tfo.No: "after the client's ACK", tfo.NotTried: "at about the time of the client's ACK",
	}[a.AnsweredEarly]
	acked := "all acknowledged"
	if a.ResponseAcked < a.ResponseBytes {
		acked = fmt.Sprintf("%d acknowledged", a.ResponseAcked)
	}
	return fmt.Sprintf("%d bytes, %s, %s", a.ResponseBytes, when, acked)
}

func endText(a *tfo.Arrival) string {
	s := map[tfo.ArrivalEnd]string{
		tfo.ArrivalServed:  "served",
		tfo.ArrivalClosed:  "closed by the client before a whole request",
		tfo.ArrivalBroken:  "broken off",
		tfo.ArrivalSilent:  "given up: no whole request came",
		tfo.ArrivalUnacked: "given up: the answer was not acknowledged",
		tfo.ArrivalRefused: "refused: the source is not allowed",
		tfo.ArrivalCut:     "cut short by this program",
	}[a.End]
	if a.Errno != "" {
		s += " (" + a.Errno + ")"
	}
	return s + " after " + since(a.TotalNS)
}

// showsText is what a connection says about Fast Open, in a line.
func showsText(a *tfo.Arrival) string {
	refused := a.Child == tfo.No
	switch a.Claim {
	case tfo.ClaimUnseen:
		return "nothing: under SYN cookies there is no Fast Open and no SYN to look at"
	case tfo.ClaimNone:
		switch {
		case a.Child == tfo.Yes:
			return "data without a cookie, taken: none is required here"
		case a.SynBytes > 0:
			return "data without a cookie, refused"
		}
		return "no Fast Open asked for, or the option was taken out on the way"
	case tfo.ClaimRequest:
		if a.Child == tfo.Yes {
			return "a cookie asked for where none is required"
		}
		return "a cookie asked for; the kernel grants one unless its queue is full"
	case tfo.ClaimMalformed:
		return fmt.Sprintf("a cookie of %d bytes, which is none: changed on the way, or not from Linux", len(a.SYN.Options.FastOpen().Cookie))
	case tfo.ClaimStale:
		return "a cookie that no key here makes for this client: an older key, another server's, or a client whose address changed"
	case tfo.ClaimUnjudged:
		if refused {
			return "a cookie, refused"
		}
		return "a cookie; what it is worth is not known"
	}
	key := "a valid cookie"
	if a.Claim == tfo.ClaimBackup {
		key = "a cookie of the backup key, to be replaced"
	}
	switch {
	case refused:
		return key + ", refused all the same: the queue is full, or Fast Open is off for listeners"
	case a.SynTaken > 0:
		return "Fast Open: " + key + ", and data in the SYN"
	case a.SynBytes == 0:
		return key + " without data: none was sent, or it was taken out on the way"
	}
	return key
}

func (t listenText) alarm(_ io.Writer, a tfo.Alarm) {
	text, hint := alarmText(a)
	t.warn.say("warning: %s", text)
	if hint != "" {
		t.warn.say("hint: %s", hint)
	}
}

// alarmText says an alarm in plain words, and what to do about it.
func alarmText(a tfo.Alarm) (text, hint string) {
	switch a.Kind {
	case tfo.AlarmServerOff:
		return "bit 0x2 of net.ipv4.tcp_fastopen is clear: the kernel gives listeners no Fast Open, and no error",
			"sysctl -w net.ipv4.tcp_fastopen=0x3"
	case tfo.AlarmQueueCapped:
		return fmt.Sprintf("up to %d pending Fast Open connections, not %d: net.core.somaxconn is the limit", a.Queue, a.Count),
			fmt.Sprintf("sysctl -w net.core.somaxconn=%d, then start again", a.Count)
	case tfo.AlarmQueueNear:
		return fmt.Sprintf("%d of %d pending Fast Open connections in use: when it is full, clients get no cookies", a.InUse, a.Queue),
			"a longer queue: sysctl -w net.core.somaxconn=65535, then start again"
	case tfo.AlarmQueueOverflow:
		return fmt.Sprintf("the queue of pending Fast Open connections was full: %d SYNs got neither cookie nor Fast Open, as from a host without it", a.Count),
			"a longer queue: sysctl -w net.core.somaxconn=65535, then start again"
	case tfo.AlarmAcceptOverflow:
		return fmt.Sprintf("%d SYNs or ACKs were dropped by a listener of this network namespace", a.Count), ""
	case tfo.AlarmSyncookies:
		if a.Count == 0 {
			return "net.ipv4.tcp_syncookies is 2: there is no Fast Open, and no SYN to look at", "sysctl -w net.ipv4.tcp_syncookies=1"
		}
		return fmt.Sprintf("%d SYN cookies were sent: those clients got no Fast Open, and their SYNs were not kept", a.Count), ""
	case tfo.AlarmShortage:
		return "no room to accept with (" + a.Errno + "): the oldest connection gave way", "a higher limit of open files: ulimit -n"
	}
	return a.Kind.String(), ""
}

func (listenText) end(w io.Writer, t *listenTally, moved tfo.MIB) {
	fmt.Fprintf(w, "\n%d connections\n", t.Connections)
	for _, line := range []struct {
		n    int
		what string
	}{
		{t.WithoutOption, "without a TFO option"},
		{t.Requests, "asked for a cookie"},
		{t.Valid, "with a valid cookie"},
		{t.Backup, "with a cookie of the backup key"},
		{t.Stale, "with a stale cookie"},
		{t.OtherCookies, "with another cookie"},
		{t.Unseen, "whose SYN was not kept"},
		{t.DataTaken, "had their SYN data taken"},
		{t.WithData - t.DataTaken, "had their SYN data refused"},
		{t.Early, "answered before the client's ACK"},
		{t.NotShown, "reports not shown, the reader was too slow"},
	} {
		if line.n > 0 {
			fmt.Fprintf(w, "  %6d %s\n", line.n, line.what)
		}
	}
	fmt.Fprintf(w, "\nkernel counters of this network namespace, change since the start\n")
	for c := tfo.Counter(0); int(c) < tfo.Counters; c++ {
		if c >= tfo.CountAcceptOverflow && moved[c] <= 0 {
			continue // not Fast Open's own, and nothing to say
		}
		n := fmt.Sprint(moved[c])
		if moved[c] == tfo.NotKnown {
			n = "?"
		}
		fmt.Fprintf(w, "  %6s %s\n", n, c)
	}
}

func since(ns int64) string {
	d := time.Duration(ns)
	switch {
	case d < time.Millisecond:
		d = d.Round(time.Microsecond)
	case d < time.Second:
		d = d.Round(100 * time.Microsecond)
	default:
		d = d.Round(10 * time.Millisecond)
	}
	return d.String()
}
