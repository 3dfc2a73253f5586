package fleettest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// programs are the shipped programs, built once for all tests of a package.
var programs = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "tfofleet-test"); err != nil {
		return "", err
	}
	built = dir
	out, err := exec.Command("go", "build", "-o", dir+"/", "tfofleet/cmd/controller", "tfofleet/cmd/probe").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return dir, nil
})

var built string // the directory of programs, to be removed

// Program is the path of a program, "controller" or "probe".
func Program(t testing.TB, name string) string {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// Process is a program that runs.
type Process struct {
	name string
	cmd  *exec.Cmd
	out  *output
	over chan struct{} // closed when it has ended

	terminated bool  // SIGTERM was sent
	err        error // how; after over
}

// output is what a program said, over all of its runs.
type output struct {
	mu  sync.Mutex
	b   bytes.Buffer
	run int // where the last run begins
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) next() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.run = o.b.Len()
}

func (o *output) all() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func (o *output) last() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.b.Bytes()[o.run:])
}

// start starts a program on a host. It is killed with the test.
func start(t testing.TB, on *Host, name, dir string, out *output, command []string) *Process {
	t.Helper()
	p := &Process{name: name, cmd: exec.Command(command[0], command[1:]...), out: out, over: make(chan struct{})}
	out.next()
	p.cmd.Dir, p.cmd.Stderr = dir, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := on.Do(p.cmd.Start); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.over)
	}()
	return p
}

// Kill is the loss of the process: it is told nothing.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.over
}

// Terminate is SIGTERM.
func (p *Process) Terminate() {
	p.terminated = true
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
}

// End is SIGTERM, if it was not sent, and the process has to end well.
func (p *Process) End(t testing.TB) {
	t.Helper()
	if !p.terminated { // a second one means: at once
		p.Terminate()
	}
	select {
	case <-p.over:
	case <-time.After(time.Minute):
		t.Fatalf("%s does not end; it said:\n%s", p.name, p.out.last())
	}
	if p.err != nil {
		t.Errorf("%s after SIGTERM: %v; it said:\n%s", p.name, p.err, p.out.last())
	}
}

// Inside is the path of a file as the process sees it, which may have mounts of
// its own.
func (p *Process) Inside(path string) string {
	return filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "root", path)
}

// Said is all that the program has said, in all of its runs.
func (p *Process) Said() string { return p.out.all() }

// Says reports whether the process has said a word since it was started.
func (p *Process) Says(word string) bool { return strings.Contains(p.out.last(), word) }

// Ended reports whether the process has ended by itself, and how.
func (p *Process) Ended() (bool, error) {
	select {
	case <-p.over:
		return true, p.err
	default:
		return false, nil
	}
}
