package tfo

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// NetNS is the network namespace attempts are made from, as a path such as
// /run/netns/NAME. The zero value is the namespace of the process.
type NetNS string

// Do calls f on an OS thread that is in the namespace. Sockets that f opens
// stay in the namespace for life; /proc/sys/net and /proc/thread-self/net,
// read inside f, are the namespace's own (/proc/net is not: it belongs to the
// main thread). The thread is not used again.
func (ns NetNS) Do(f func() error) error {
	if ns == "" {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		if err := ns.Enter(); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// Enter moves the calling goroutine into the namespace for the rest of its
// life: its OS thread is locked to it and ends with it.
func (ns NetNS) Enter() error {
	if ns == "" {
		return nil
	}
	runtime.LockOSThread()
	f, err := os.Open(string(ns))
	if err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("network namespace %s: %w", ns, os.NewSyscallError("setns", err))
	}
	return nil
}
