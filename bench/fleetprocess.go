package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "tfofleet/proto/tfofleet/v1"
)

// process is "controller serve" with a data directory and an address of its
// own, which outlive it.
type process struct {
	program, data, listen, profiler string
	heartbeat                       time.Duration

	cmd    *exec.Cmd // nil while it does not run
	exited chan struct{}
	conn   *grpc.ClientConn // of an operator
	ctl    pb.ControlServiceClient
	peak   int // kB that it had in memory, over all its lives
}

// newProcess builds the controller, once, and makes a data directory.
func (b *bench) newProcess(name string) (*process, error) {
	if b.dir == "" {
		var err error
		if b.dir, err = os.MkdirTemp("", "bench-"); err != nil {
			return nil, err
		}
	}
	p := &process{program: filepath.Join(b.dir, "controller"), data: filepath.Join(b.dir, name), heartbeat: b.heartbeat}
	if err := b.build(p); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p.listen = l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, err
	}
	p.conn, err = grpc.NewClient("unix:"+filepath.Join(p.data, "run", "controller.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	p.ctl = pb.NewControlServiceClient(p.conn)
	return p, nil
}

// profiler is a file that a controller to be profiled is built with.
const profiler = `package main

import (
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
)

func init() {
	if l, err := net.Listen("unix", os.Getenv("BENCH_PROFILER")); err == nil {
		go http.Serve(l, nil)
	}
}
`

func (b *bench) build(p *process) error {
	args := []string{"build", "-o", p.program}
	if b.profile != "" {
		p.profiler = p.data + ".profiler"
		if err := os.MkdirAll(b.profile, 0o755); err != nil {
			return err
		}
		file, overlay := filepath.Join(b.dir, "profiler.go"), filepath.Join(b.dir, "overlay.json")
		as, err := filepath.Abs("cmd/controller/profiler.go")
		if err != nil {
			return err
		}
		text, err := json.Marshal(map[string]any{"Replace": map[string]string{as: file}})
		if err != nil {
			return err
		}
		if err := errors.Join(os.WriteFile(file, []byte(profiler), 0o600), os.WriteFile(overlay, text, 0o600)); err != nil {
			return err
		}
		args = append(args, "-overlay", overlay)
	}
	if out, err := exec.Command("go", append(args, "./cmd/controller")...).CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}

// start starts the program and does not wait until it is ready.
func (p *process) start() error {
	log, err := os.OpenFile(p.data+".log", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	p.cmd = exec.Command(p.program, "serve", "--data", p.data, "--listen", p.listen, "--heartbeat", p.heartbeat.String(), "--metrics", "", "--log-level", "warn")
	p.cmd.Stderr = log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if p.profiler != "" {
		os.Remove(p.profiler) // that of the last life
		p.cmd.Env = append(os.Environ(), "BENCH_PROFILER="+p.profiler)
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.exited = make(chan struct{})
	go func() {
		_ = p.cmd.Wait() // killed, or ready tells
		close(p.exited)
	}()
	return nil
}

// ready waits until operators are served.
func (p *process) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		_, err := p.ctl.ListSurveys(ctx, &pb.ListSurveysRequest{})
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			text, _ := os.ReadFile(p.data + ".log")
			return fmt.Errorf("the controller ended:\n%s", text)
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
			p.conn.ResetConnectBackoff()
		}
	}
}

// kill is a loss of the process: it is told nothing.
func (p *process) kill() error {
	if p.cmd == nil {
		return nil
	}
	if _, err := p.memory(); err != nil {
		return err
	}
	err := p.cmd.Process.Kill()
	<-p.exited
	p.cmd = nil
	return err
}

func (p *process) close() {
	if p.cmd != nil {
		p.cmd.Process.Kill()
		<-p.exited
	}
	p.conn.Close()
}

// memory is how much the process has in memory now, in MB, and notes the most
// that it had.
func (p *process) memory() (now int, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), ":")
		kb, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
		switch name {
		case "VmRSS":
			now = kb >> 10
		case "VmHWM":
			p.peak = max(p.peak, kb)
		}
	}
	return now, nil
}

// peakMB is the most that the controller had in memory, over all its lives.
func (p *process) peakMB() int {
	if p.cmd != nil {
		_, _ = p.memory() // if it ended, what was noted stands
	}
	return p.peak >> 10
}

// used is the processor time of the process, to 10 ms.
func (p *process) used() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	// After the name, which may hold anything: proc_pid_stat(5), fields 14 and 15.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 wherever Go runs
}

// profiled profiles the controller for some seconds; the files are named after
// what it does. The returned function waits for them.
func (b *bench) profiled(p *process, what string) (stop func()) {
	if b.profile == "" {
		return func() {}
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", p.profiler)
	}}}
	fetch := func(path, name string) {
		resp, err := client.Get("http://profiler/debug/pprof/" + path)
		if err == nil {
			defer resp.Body.Close()
			var f *os.File
			if f, err = os.Create(filepath.Join(b.profile, name)); err == nil {
				_, err = io.Copy(f, resp.Body)
				f.Close()
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench: no profile:", err)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		fetch(fmt.Sprintf("profile?seconds=%d", profiledFor), what+".cpu")
	}()
	return func() { <-done; fetch("heap", what+".heap") }
}

// profiledFor is how many seconds a profile covers.
const profiledFor = 15
