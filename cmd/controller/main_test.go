package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"controller":    main,
		"world":         func() { os.Exit(worldMain(os.Args[1:])) },
		"simulate":      func() { os.Exit(simulateMain()) },
		"simulate-mesh": func() { os.Exit(simulateMeshMain()) },
	})
}

// TestScript runs the scripts in testdata/script. Each begins with what it
// guards. Those named kernel_* need network namespaces.
func TestScript(t *testing.T) {
	able := namespaces(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup:               func(e *testscript.Env) error { return writeCutList(filepath.Join(e.WorkDir, "cut.gz")) },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			"left":  left,
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "namespaces":
				return able, nil
			case "mounts":
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
	})
}

// writeCutList writes a compressed list that breaks off after thousands of
// lines.
func writeCutList(name string) error {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	for i := range 100_000 {
		fmt.Fprintf(w, "127.%d.%d.%d:1\n", i>>16&255, i>>8&255, i&255)
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(name, b.Bytes()[:b.Len()/2], 0o644)
}

// namespaces reports whether worlds can be made here, and says so where not.
func namespaces(t *testing.T) bool {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := (&exec.Cmd{Path: exe, Args: []string{"world", "true"}}).CombinedOutput()
	if err == nil {
		return true
	}
	msg := fmt.Sprintf("no network namespaces here, scripts that need one do not run: %v %s", err, out)
	if os.Getenv("TFOFLEET_REQUIRE_KERNEL") == "1" {
		t.Fatal(msg)
	}
	fmt.Fprintln(os.Stderr, msg)
	return false
}

// exits runs a command that must end with a code:
//
//	exits CODE COMMAND ARGS...
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%s: %v", args[1], err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// left asserts what a command left behind in the work directory, beside the
// files of the script: directories made by surveys.
//
//	left nothing
//	left NAME...
func left(ts *testscript.TestScript, neg bool, args []string) {
	entries, err := os.ReadDir(ts.Getenv("WORK"))
	ts.Check(err)
	var got []string
	for _, e := range entries {
		if e.IsDir() && e.Name() != ".tmp" && e.Name() != "given" {
			got = append(got, filepath.Base(e.Name()))
		}
	}
	if len(args) == 1 && args[0] == "nothing" {
		args = nil
	}
	if fmt.Sprint(got) != fmt.Sprint(args) {
		ts.Fatalf("left %v, want %v", got, args)
	}
}
