package identity

import (
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestBriefConnection: it ends by itself, unless it has ended before.
func TestBriefConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, closed := range []bool{false, true} {
			near, far := net.Pipe()
			begun := time.Now()
			c := brief(near, time.Minute)
			if closed {
				c.Close()
			}
			if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			if took := time.Since(begun); closed != (took == 0) || took > time.Minute {
				t.Errorf("closed %v, it ended after %v", closed, took)
			}
		}
	})
}

// TestStrangerLife: no enrolment or recovery is cut off.
func TestStrangerLife(t *testing.T) {
	for name, rule := range Methods() {
		if rule.Class == Anyone && (rule.Timeout == 0 || rule.Timeout >= strangerLife) {
			t.Errorf("%s may take %v, and a stranger's connection lasts for %v", name, rule.Timeout, strangerLife)
		}
	}
}
