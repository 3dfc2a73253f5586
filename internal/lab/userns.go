package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// userNSMark tells the program that it runs inside a user namespace that Enter
// made for it.
const userNSMark = "TFOLAB_USERNS"

// Enter makes sure that the program may build a lab; main and TestMain call it
// before anything else. Where the privileges suffice it returns at once with
// ran false. Otherwise it runs the same program again, with the same arguments,
// inside new user, mount and network namespaces, passes signals on to it, and
// returns its exit code with ran true: the caller then exits with that code. In
// there the program is root over nothing but its own namespaces: it has no
// network besides the labs it builds, and no /run but its own.
//
// If neither is possible the error is a *[PrivilegeError].
func Enter() (code int, ran bool, err error) {
	if os.Getenv(userNSMark) != "" {
		os.Unsetenv(userNSMark)
		if err := furnish(); err != nil {
			return 0, false, &PrivilegeError{UserNS: err}
		}
		return 0, false, CheckPrivileges()
	}
	missing := CheckPrivileges()
	var p *PrivilegeError
	if !errors.As(missing, &p) {
		return 0, false, missing
	}
	if code, err = runInUserNS(); err != nil {
		p.UserNS = err
		return 0, false, p
	}
	return code, true, nil
}

// runInUserNS runs this program again and waits for its end. The error is
// non-nil only if it could not be started.
func runInUserNS() (code int, err error) {
	// The kernel sends Pdeathsig when the starting thread ends, not the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = os.Args
	cmd.Env = append(os.Environ(), userNSMark+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		// A group of its own: an interrupt typed at the terminal reaches the
		// child once, through us, not twice.
		Setpgid:   true,
		Pdeathsig: syscall.SIGKILL,
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			_ = cmd.Process.Signal(s) // it may have ended just now
		case err := <-done:
			if st, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && st.Signaled() {
				return 128 + int(st.Signal()), nil
			}
			if code := cmd.ProcessState.ExitCode(); code >= 0 {
				return code, nil
			}
			return 0, err
		}
	}
}

// furnish makes the fresh namespaces usable: nothing mounted in here is seen
// outside, names of namespaces and locks have a place (only root could make one
// in the /run outside), and the loopback interface is up.
func furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount a tmpfs on /run: %w", err)
	}
	fd, err := unix.Open("/proc/self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	self := &namespace{fd: fd}
	defer unix.Close(fd)
	return linkUp(self, "lo")
}
