package tfo

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/netip"
	"os/exec"
	"time"
)

// SelfTest is what came of proving on this kernel, against a listener of our
// own, that a cookie is asked for, granted, sent back with data in the SYN, and
// the data acknowledged.
type SelfTest struct {
	// Place is where it was made; empty when it could not be made. Reasons say
	// why not in a better place, one per place tried.
	Place    SelfTestPlace `json:"place"`
	Reasons  []string      `json:"reasons,omitempty"`
	Families []FamilyTest  `json:"families"`
}

// SelfTestPlace names where a self-test was made. The values are stable.
type SelfTestPlace string

const (
	PlaceNone     SelfTestPlace = ""
	PlacePrivate  SelfTestPlace = "private namespace"
	PlaceUserNS   SelfTestPlace = "private user and network namespace"
	PlaceLoopback SelfTestPlace = "loopback" // of the namespace the process is in
)

// FamilyTest is the self-test of one address family. Both ends are recorded:
// what the client's kernel said and what the listener saw.
type FamilyTest struct {
	Family string `json:"family"` // "IPv4", "IPv6"
	Failed string `json:"failed"` // what went wrong, as a sentence; empty when all steps passed

	RequestSeen  bool   `json:"request_seen"` // the listener saw the cookie request
	RequestKind  uint8  `json:"request_kind"` // with this option kind
	Cookie       string `json:"cookie"`       // granted and cached, hexadecimal
	CookieJudged bool   `json:"cookie_judged"`
	CookieValid  bool   `json:"cookie_valid"`

	SynBytes int  `json:"syn_bytes"`       // sent in the SYN
	SynAcked int  `json:"syn_bytes_acked"` // acknowledged by the SYN-ACK
	SynTaken int  `json:"syn_bytes_taken"` // given to the listener's application before the handshake was complete
	Answered bool `json:"answered"`

	ClientFail uint8 `json:"client_fail"`  // of the request: 1 where the kernel tells
	ChildBit   bool  `json:"tfo_child"`    // TCPI_OPT_TFO_CHILD on the listener's side
	InfoBytes  int   `json:"tcp_info_len"` // of struct tcp_info
}

// Passed reports whether the test was made and no family failed it.
func (s *SelfTest) Passed() bool {
	for _, f := range s.Families {
		if f.Failed != "" {
			return false
		}
	}
	return len(s.Families) > 0
}

// RunSelfTest makes the self-test in the best place there is: a network
// namespace of its own; the same inside a user namespace of its own, where
// child, if not nil, is a command that calls SelfTestInside and prints the
// result as JSON; the loopback interface of ns. The first two leave no trace. The
// last leaves a cookie in the cache, and makes the kernel make up a key if the
// namespace has none.
func RunSelfTest(ns NetNS, child *exec.Cmd) SelfTest {
	t := SelfTest{Families: []FamilyTest{}}
	private, closer, err := NewNetNS()
	if err == nil {
		defer closer.Close()
		t.Place = PlacePrivate
		t.Families = []FamilyTest{
			testFamily(private, "IPv4", netip.MustParseAddr("127.0.0.1")),
			testFamily(private, "IPv6", netip.IPv6Loopback()),
		}
		return t
	}
	t.Reasons = append(t.Reasons, err.Error())
	if child != nil {
		inside, err := selfTestIn(child)
		if err == nil {
			inside.Reasons = t.Reasons
			return inside
		}
		t.Reasons = append(t.Reasons, err.Error())
	}
	return selfTestLoopback(ns, t)
}

// selfTestLoopback adds the test over loopback to what has been tried.
func selfTestLoopback(ns NetNS, t SelfTest) SelfTest {
	bits := NotKnown
	if err := ns.Do(func() error { bits = sysctl("tcp_fastopen"); return nil }); err != nil {
		t.Reasons = append(t.Reasons, err.Error())
		return t
	}
	if bits == NotKnown || bits&SysctlClient == 0 || bits&SysctlServer == 0 {
		t.Reasons = append(t.Reasons, "use the loopback interface: net.ipv4.tcp_fastopen lacks 0x1 or 0x2")
		return t
	}
	// An address of its own, so that no cookie is there from before. IPv6 has
	// only one loopback address.
	a := mathrand.Uint32()
	to := netip.AddrFrom4([4]byte{127, byte(a>>16) & 127, byte(a >> 8), byte(a) | 2})
	t.Place, t.Families = PlaceLoopback, []FamilyTest{testFamily(ns, "IPv4", to)}
	return t
}

// SelfTestInside makes the self-test in the network namespace of the process,
// which must be fresh and its own.
func SelfTestInside() (SelfTest, error) {
	if err := furnishNetNS(); err != nil {
		return SelfTest{}, err
	}
	return SelfTest{Place: PlaceUserNS, Families: []FamilyTest{
		testFamily("", "IPv4", netip.MustParseAddr("127.0.0.1")),
		testFamily("", "IPv6", netip.IPv6Loopback()),
	}}, nil
}

// selfTestIn runs child in fresh user and network namespaces.
func selfTestIn(child *exec.Cmd) (SelfTest, error) {
	var out, errs bytes.Buffer
	child.Stdout, child.Stderr = &out, &errs
	inFreshUserNS(child)
	if err := child.Run(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && errs.Len() > 0 {
			err = errors.New(string(bytes.TrimSpace(errs.Bytes())))
		}
		return SelfTest{}, fmt.Errorf("use a user namespace: %w", err)
	}
	var t SelfTest
	if err := json.Unmarshal(out.Bytes(), &t); err != nil {
		return SelfTest{}, fmt.Errorf("use a user namespace: read its answer: %w", err)
	}
	return t, nil
}

// selfTestTimeout is for each handshake and response over loopback: far more
// than a busy machine takes.
const selfTestTimeout = 3 * time.Second

// testFamily makes a request and sends data to a listener of its own.
func testFamily(ns NetNS, family string, to netip.Addr) FamilyTest {
	t := FamilyTest{Family: family}
	if err := t.run(ns, to); err != nil {
		t.Failed = err.Error()
	}
	return t
}

func (t *FamilyTest) run(ns NetNS, to netip.Addr) error {
	var key Key
	rand.Read(key[:])
	arrivals := make(chan *Arrival, 8)
	l, err := Listen(ListenConfig{
		Addr: netip.AddrPortFrom(to, 0), NetNS: ns, Keys: []Key{key}, Queue: 8, Patience: selfTestTimeout,
		Arrived: func(a *Arrival) {
			select {
			case arrivals <- a:
			default: // a stranger on our loopback address; there is room for what we wait for
			}
		},
	})
	if err != nil {
		return err
	}
	e, err := NewEngine(Config{Concurrency: 1, NetNS: ns})
	if err != nil {
		l.Close()
		return err
	}
	q := &selfTestSequence{remote: l.Addr(), over: make(chan struct{})}
	e.Start(q)
	<-q.over
	e.Stop()
	l.Close()
	close(arrivals)
	return t.read(q.evidence, arrivals)
}

// read goes through the evidence of both ends in the order of the steps.
func (t *FamilyTest) read(evs []*Evidence, arrivals <-chan *Arrival) error {
	seen := map[netip.AddrPort]*Arrival{}
	for a := range arrivals {
		seen[a.Peer] = a
	}
	request := evs[0]
	t.ClientFail, t.InfoBytes = request.ClientFail, len(request.InfoHandshake)
	if !request.End.Established() {
		return fmt.Errorf("no connection: %v %s", request.End, request.Errno)
	}
	if a := seen[request.Local]; a != nil {
		t.RequestSeen, t.RequestKind = a.Claim == ClaimRequest, a.SYN.Options.FastOpenKind
	}
	if request.CookieAfter.State != CookiePresent {
		switch {
		case request.CookieAfter.State == CookieNotRead:
			return errors.New("the cookie cache cannot be read")
		case !t.RequestSeen:
			return errors.New("the SYN asked for no cookie")
		}
		return errors.New("a cookie was asked for and not granted")
	}
	t.Cookie = hex.EncodeToString(request.CookieAfter.Bytes)
	data := evs[1]
	t.SynBytes, t.SynAcked, t.Answered = data.SynBytes, max(0, data.SynAcked), data.End == EndResponse
	if a := seen[data.Local]; a != nil {
		t.CookieJudged = a.Claim == ClaimValid || a.Claim == ClaimBackup || a.Claim == ClaimStale
		t.CookieValid = a.Claim == ClaimValid
		t.SynTaken = a.SynTaken
		t.ChildBit = a.Options()&OptTFOChild != 0
	}
	switch {
	case t.SynBytes == 0:
		return errors.New("the SYN carried no data although a cookie was cached")
	case t.SynAcked < t.SynBytes:
		return fmt.Errorf("%d of %d bytes of SYN data were acknowledged", t.SynAcked, t.SynBytes)
	case t.SynTaken != t.SynBytes:
		return fmt.Errorf("the listener was given %d of %d bytes of SYN data", t.SynTaken, t.SynBytes)
	case t.CookieJudged && !t.CookieValid:
		return errors.New("the kernel's cookie is not the one computed from its key")
	case !t.Answered:
		return fmt.Errorf("no answer: %v %s", data.End, data.Errno)
	}
	return nil
}

// selfTestSequence asks for a cookie and then uses it.
type selfTestSequence struct {
	remote   netip.AddrPort
	evidence []*Evidence
	over     chan struct{}
}

func (q *selfTestSequence) Remote() netip.AddrPort { return q.remote }
func (q *selfTestSequence) Over(bool)              { close(q.over) }

func (q *selfTestSequence) Next(last *Evidence) (Attempt, bool) {
	if last != nil {
		q.evidence = append(q.evidence, last)
	}
	att := Attempt{Kind: KindRequest, Payload: []byte("tfofleet self-test"), ClearCookie: true, Timeout: selfTestTimeout}
	if len(q.evidence) == 1 {
		att.Kind, att.ClearCookie = KindData, false
	}
	return att, len(q.evidence) < 2
}
