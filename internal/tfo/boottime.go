package tfo

import (
	"time"

	"golang.org/x/sys/unix"
)

// SinceBoot is how long ago the machine was started. Unlike the monotonic clock
// of package time it goes on while the machine sleeps (CLOCK_BOOTTIME,
// clock_gettime(2)), and nobody can set it.
func SinceBoot() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(err) // since Linux 2.6.39 it cannot fail
	}
	return time.Duration(t.Nano())
}
