package tfo

import (
	"net/netip"
	"os/exec"
)

// SetMaxInbound changes how many connections a listener keeps open. No
// listener may run meanwhile.
func SetMaxInbound(n int) (restore func()) {
	old := maxInbound
	maxInbound = n
	return func() { maxInbound = old }
}

// SelfTestOver makes the self-test of one family in a namespace.
func SelfTestOver(ns NetNS, to netip.Addr) FamilyTest { return testFamily(ns, "IPv4", to) }

// SelfTestIn makes the self-test in a user namespace, whatever the privileges.
func SelfTestIn(child *exec.Cmd) (SelfTest, error) { return selfTestIn(child) }

// SelfTestLoopback makes the self-test over loopback.
func SelfTestLoopback(ns NetNS) SelfTest {
	return selfTestLoopback(ns, SelfTest{Families: []FamilyTest{}})
}
