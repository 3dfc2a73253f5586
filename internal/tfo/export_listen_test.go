package tfo

// SetMaxInbound changes how many connections a listener keeps open. No
// listener may run meanwhile.
func SetMaxInbound(n int) (restore func()) {
	old := maxInbound
	maxInbound = n
	return func() { maxInbound = old }
}
