package identity

import (
	"fmt"
	"net"
	"testing"
	"time"
)

// TestBuckets: however many strangers call, memory is bounded, and who does not
// fit still gets through, together, at the rate of one.
func TestBuckets(t *testing.T) {
	l, now, limit := newLimiter(), fuzzTime, Limit{PerSecond: 1, Burst: 2}
	take := func(caller string) bool {
		ok, retry := l.allow("/m", caller, limit, now)
		if ok != (retry == 0) {
			t.Fatalf("%v, retry after %v", ok, retry)
		}
		return ok
	}
	for i := range maxBuckets {
		if !take(fmt.Sprint(i)) {
			t.Fatal("the first call of a caller is refused")
		}
	}
	late := 0
	for i := range 100 {
		if take(fmt.Sprint("late", i)) {
			late++
		}
	}
	if late != limit.Burst || len(l.buckets) != maxBuckets+1 {
		t.Errorf("%d late calls went through with %d buckets", late, len(l.buckets))
	}
	if !take("0") || take("0") {
		t.Error("an early caller has lost its bucket")
	}
	now = now.Add(time.Minute) // all are full again
	if !take("one more") || len(l.buckets) > 2 {
		t.Errorf("%d buckets are left", len(l.buckets))
	}
}

func TestBucketsPerMethod(t *testing.T) {
	l, limit := newLimiter(), Limit{PerSecond: 1, Burst: 1}
	for _, m := range []string{"/a", "/b"} {
		if ok, _ := l.allow(m, "x", limit, fuzzTime); !ok {
			t.Errorf("%s is refused", m)
		}
	}
	// A refused call takes nothing: the next one is due when it was said.
	_, retry := l.allow("/a", "x", limit, fuzzTime)
	l.allow("/a", "x", limit, fuzzTime)
	if ok, _ := l.allow("/a", "x", limit, fuzzTime.Add(retry)); !ok || retry != time.Second {
		t.Errorf("refused after %v", retry)
	}
}

func TestAddressKey(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1:5": "192.0.2.1", "[::ffff:192.0.2.1]:6": "192.0.2.1",
		"[2001:db8:1:2:3:4:5:6]:7": "2001:db8:1:2::/64", "[2001:db8:1:2::]:8": "2001:db8:1:2::/64", "[fe80::1%eth0]:9": "fe80::/64",
	} {
		tcp, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if got := addressKey(tcp); got != want {
			t.Errorf("%s counts as %s, want %s", address, got, want)
		}
	}
	if got := addressKey(&net.UnixAddr{Name: "x"}); got != "" {
		t.Errorf("a unix address counts as %q", got)
	}
}
