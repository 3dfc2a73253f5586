package tfo

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Feature is one thing this kernel can do or not. Since and Commit name where
// mainline got it; a distribution may have brought it to an older kernel, and
// so the answer comes from trying wherever trying is possible.
type Feature struct {
	ID     string `json:"id"`     // stable
	Name   string `json:"name"`   // for people
	Answer Tri    `json:"answer"` // not_tried: not known
	How    string `json:"how"`    // where the answer comes from
	Since  string `json:"since"`
	Commit string `json:"commit"`
	Cost   string `json:"cost,omitempty"` // of not having it
}

const (
	howTried    = "tried"
	howSelfTest = "self-test"
	howVersion  = "version"
)

// featureList is in the order of time. ask answers from the facts, without a
// look at the version.
var featureList = []struct {
	Feature
	major, minor int
	ask          func(m *Machine, t *FamilyTest) Tri // t is nil without a self-test
}{
	{Feature{ID: "client", Name: "data in a SYN, as client", How: howSelfTest, Since: "3.6", Commit: "cf60af03ca4e",
		Cost: "nothing can be measured"}, 3, 6,
		func(m *Machine, t *FamilyTest) Tri {
			if t != nil && t.SynBytes > 0 {
				return Yes
			}
			return NotTried
		}},
	{Feature{ID: "tcp_metrics", Name: "the cookie cache can be read", How: howTried, Since: "3.7", Commit: "d23ff701643a",
		Cost: "a refused cookie cannot be told from lost data"}, 3, 7,
		func(m *Machine, t *FamilyTest) Tri { return triOf(m.Cache.Entries != NotKnown) }},
	{Feature{ID: "listener", Name: "data in a SYN, as listener", How: howTried, Since: "3.7", Commit: "168a8f58059a",
		Cost: "no listener here has Fast Open"}, 3, 7, tried("TCP_FASTOPEN")},
	{Feature{ID: "kind_34", Name: "the assigned option kind, 34", How: howSelfTest, Since: "4.1", Commit: "7f9b838b71eb",
		Cost: "only servers with the experimental kind can be found"}, 4, 1,
		func(m *Machine, t *FamilyTest) Tri {
			if t == nil || !t.RequestSeen {
				return NotTried
			}
			return triOf(t.RequestKind == OptionKindTFO)
		}},
	{Feature{ID: "save_syn", Name: "a listener can look at the SYN", How: howTried, Since: "4.2", Commit: "cd8ae85299d5",
		Cost: "no listener can run here"}, 4, 2, tried("TCP_SAVE_SYN")},
	{Feature{ID: "blackhole_sysctl", Name: "the pause after a blackhole can be set", How: howTried, Since: "4.12", Commit: "cf1ef3f0719b",
		Cost: "the kernel stops Fast Open to a destination by rules of its own"}, 4, 12,
		func(m *Machine, t *FamilyTest) Tri { return triOf(m.BlackholeTimeoutS != NotKnown) }},
	{Feature{ID: "listener_key", Name: "keys per listener", How: howTried, Since: "4.15", Commit: "1fba70e5b6be",
		Cost: "cookies do not survive a restart of a listener"}, 4, 15, tried("TCP_FASTOPEN_KEY")},
	{Feature{ID: "no_cookie", Name: "data without a cookie, per socket", How: howTried, Since: "4.15", Commit: "71c02379c762",
		Cost: "servers that take data without a cookie are not found"}, 4, 15, tried("TCP_FASTOPEN_NO_COOKIE")},
	{Feature{ID: "bytes_retrans", Name: "TCP_INFO counts resent bytes", How: howTried, Since: "4.19", Commit: "fb31c9b9f6c8",
		Cost: "partly acknowledged SYN data cannot be told"}, 4, 19,
		func(m *Machine, t *FamilyTest) Tri { return infoHas(m, offBytesRetrans+8) }},
	{Feature{ID: "siphash_cookies", Name: "cookies can be computed from the key", How: howSelfTest, Since: "5.3", Commit: "c681edae33e8",
		Cost: "a listener cannot tell a stale cookie from a refused one"}, 5, 3,
		func(m *Machine, t *FamilyTest) Tri {
			if t == nil || !t.CookieJudged {
				return NotTried
			}
			return triOf(t.CookieValid)
		}},
	{Feature{ID: "backup_key", Name: "a backup key per listener", How: howTried, Since: "5.3", Commit: "9092a76d3cf8",
		Cost: "a change of key makes every cookie stale at once"}, 5, 3, tried("TCP_FASTOPEN_KEY backup")},
	{Feature{ID: "client_fail", Name: "TCP_INFO says why Fast Open failed", How: howSelfTest, Since: "5.5", Commit: "480274787d7e",
		Cost: "a SYN that timed out is told by counters alone"}, 5, 5,
		func(m *Machine, t *FamilyTest) Tri {
			if t == nil || !t.RequestSeen {
				return NotTried
			}
			return triOf(t.ClientFail == FailCookieUnavailable)
		}},
	{Feature{ID: "syn_linear_timeouts", Name: "lost SYNs are sent again after 1 s each", How: howTried, Since: "6.5", Commit: "ccce324dabfe",
		Cost: "SYNs are sent again after 1, 3, 7 s: timeouts need to be longer"}, 6, 5,
		func(m *Machine, t *FamilyTest) Tri { return triOf(m.LinearSYNs > 0) }},
	{Feature{ID: "total_rto", Name: "TCP_INFO counts timeouts apart", How: howTried, Since: "6.7", Commit: "3868ab0f1925",
		Cost: "lost SYNs are told from resent data by a rule, not a counter"}, 6, 7,
		func(m *Machine, t *FamilyTest) Tri { return infoHas(m, offTotalRTO+2) }},
	{Feature{ID: "tfo_child", Name: "TCP_INFO marks a listener's TFO child", How: howSelfTest, Since: "6.16", Commit: "2b13042d3636",
		Cost: "a listener cannot tell whether a cookie without data was taken"}, 6, 16,
		func(m *Machine, t *FamilyTest) Tri {
			if t == nil || t.SynTaken == 0 {
				return NotTried
			}
			return triOf(t.ChildBit)
		}},
}

func triOf(yes bool) Tri {
	if yes {
		return Yes
	}
	return No
}

func infoHas(m *Machine, n int) Tri {
	if m.InfoLen == 0 {
		return NotTried
	}
	return triOf(m.InfoLen >= n)
}

func tried(option string) func(*Machine, *FamilyTest) Tri {
	return func(m *Machine, _ *FamilyTest) Tri { return m.Options[option] }
}

// assessFeatures answers for each feature; from the version only where there
// was no way to try.
func assessFeatures(m Machine, test SelfTest) []Feature {
	var shown *FamilyTest
	for i := range test.Families {
		if shown == nil || test.Families[i].Failed == "" {
			shown = &test.Families[i]
		}
		if shown.Failed == "" {
			break
		}
	}
	release := parseRelease(m.Kernel)
	out := make([]Feature, 0, len(featureList))
	for _, f := range featureList {
		f.Answer = f.ask(&m, shown)
		if f.Answer == NotTried && release != (kernelVersion{}) && release.atLeast(f.major, f.minor) {
			f.Answer, f.How = Yes, howVersion
		}
		if f.Answer == NotTried {
			f.How = "" // an older version may have it all the same
		}
		if f.Answer == Yes {
			f.Cost = ""
		}
		out = append(out, f.Feature)
	}
	return out
}

// tryOptions tries socket options on a socket that goes nowhere. TCP_FASTOPEN is
// read, not set: setting it would make the kernel make up a key for the whole
// namespace.
func tryOptions() (map[string]Tri, int) {
	out := map[string]Tri{}
	fd, e := socketTCP(unix.AF_INET)
	if e != 0 {
		return out, 0
	}
	defer closeFD(fd)
	try := func(name string, opt int, value []byte) {
		_, _, e := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, uintptr(opt),
			uintptr(unsafe.Pointer(&value[0])), uintptr(len(value)), 0)
		out[name] = answerOf(e)
	}
	one := []byte{1, 0, 0, 0}
	if !littleEndian {
		one = []byte{0, 0, 0, 1}
	}
	try("TCP_SAVE_SYN", unix.TCP_SAVE_SYN, one)
	var value [4]byte
	n := uint32(len(value))
	out["TCP_FASTOPEN"] = answerOf(getsockopt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN, value[:], &n))
	try("TCP_FASTOPEN_NO_COOKIE", unix.TCP_FASTOPEN_NO_COOKIE, one)
	try("TCP_FASTOPEN_KEY", unix.TCP_FASTOPEN_KEY, make([]byte, 16))
	try("TCP_FASTOPEN_KEY backup", unix.TCP_FASTOPEN_KEY, make([]byte, 32))
	if out["TCP_FASTOPEN_KEY"] == No {
		out["TCP_FASTOPEN_KEY backup"] = No
	}
	var buf [tcpInfoMax]byte
	return out, len(readInfo(fd, &buf))
}

// answerOf reads an answer from an errno: an option the kernel does not know
// is ENOPROTOOPT, a key of a length it does not know EINVAL; anything else
// says nothing.
func answerOf(e syscall.Errno) Tri {
	switch e {
	case 0:
		return Yes
	case unix.ENOPROTOOPT, unix.EINVAL:
		return No
	}
	return NotTried
}
