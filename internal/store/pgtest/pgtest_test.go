package pgtest

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// TestServer: each database is empty, also one that a test had before, and the
// server keeps what it says.
func TestServer(t *testing.T) {
	for range 2 {
		t.Run("one and another one", func(t *testing.T) {
			ctx := context.Background()
			for range 2 {
				c, err := pgx.Connect(ctx, New(t)) // never closed
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.Exec(ctx, "CREATE TABLE a (n int); CREATE SCHEMA b; CREATE TABLE b.c (n int)"); err != nil {
					t.Error(err)
				}
				var fsync, listen string
				if err := c.QueryRow(ctx, "SELECT current_setting('fsync'), current_setting('listen_addresses')").Scan(&fsync, &listen); err != nil || fsync != "on" || listen != "" {
					t.Errorf("fsync %q, listen_addresses %q, %v", fsync, listen, err)
				}
			}
		})
	}
	if s, err := shared(); err != nil || s.databases != 2 {
		t.Errorf("%d databases were made, want 2: %v", s.databases, err)
	}
}

// TestNothingIsLeft: the process that started a server is killed, and the
// server and its files go too.
func TestNothingIsLeft(t *testing.T) {
	if os.Getenv("PGTEST_CHILD") == "1" {
		url := New(t)
		c, err := pgx.Connect(context.Background(), url)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Exec(context.Background(), "CREATE TABLE a (n int)"); err != nil {
			t.Fatal(err)
		}
		_, dir, _ := strings.Cut(url, "host=")
		os.Stdout.WriteString(dir + "\n")
		select {}
	}
	if _, err := programs(); err != nil {
		New(t) // says so
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestNothingIsLeft$")
	cmd.Env = append(os.Environ(), "PGTEST_CHILD=1")
	said, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 4096)
	n, err := said.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	dir := strings.TrimSpace(string(line[:n]))
	pids, err := os.ReadFile(dir + "/data/postmaster.pid")
	if err != nil {
		t.Fatal(err)
	}
	pid := strings.Split(string(pids), "\n")[0]
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		_, err1 := os.Stat(dir)
		_, err2 := os.Stat("/proc/" + pid)
		if errors.Is(err1, fs.ErrNotExist) && errors.Is(err2, fs.ErrNotExist) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %v, process %s: %v", dir, err1, pid, err2)
		}
	}
}
