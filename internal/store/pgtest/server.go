package pgtest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// supervisor runs a server for as long as its standard input is open: a pipe
// from the process that wants the server, which breaks with it. What is kept
// is thrown away with the server, so there is no reason to stop it gently.
// With fsync, as in earnest; only initdb need not wait for the disk. With a
// locale whose order is not that of bytes, as most servers have.
const supervisor = `
trap 'exit 1' HUP INT TERM
trap 'pg_ctl -D "$1/data" -m immediate -w stop >/dev/null 2>&1; rm -rf "$1"' EXIT
initdb -D "$1/data" -A trust -U tfofleet -E UTF8 --locale=C --locale-provider=icu --icu-locale=en-US --no-sync &&
pg_ctl -D "$1/data" -l "$1/log" -w -t 120 -o "-k '$1' -c listen_addresses='' -c fsync=on" start || {
	cat "$1/log" 2>/dev/null
	exit 1
}
echo "$ready"
read _
exit 0
`

const ready = "the server is ready"

// errNone: there is no PostgreSQL on this machine.
var errNone = errors.New("no PostgreSQL server is installed (on Debian: apt-get install postgresql)")

// server is a server that runs.
type server struct {
	dir   string // of its data and its socket
	cmd   *exec.Cmd
	stdin io.Closer

	mu        sync.Mutex
	databases int      // that were made
	empty     []string // that no test has
}

func start() (_ *server, err error) {
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	s := new(server)
	// Not t.TempDir: its name is too long for a socket, and closed to others.
	if s.dir, err = os.MkdirTemp("", "pg"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(s.dir)
		}
	}()
	s.cmd = exec.Command("/bin/sh", "-c", supervisor, "sh", s.dir)
	s.cmd.Dir = s.dir
	s.cmd.Env = []string{"PATH=" + bin + ":/usr/bin:/bin", "LC_ALL=C", "ready=" + ready}
	// A session of its own: what interrupts the tests must not get to it before
	// they have ended.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if os.Geteuid() == 0 { // PostgreSQL does not run as root
		who, err := unprivileged()
		if err != nil {
			return nil, err
		}
		if err := os.Chown(s.dir, int(who.Uid), int(who.Gid)); err != nil {
			return nil, err
		}
		s.cmd.SysProcAttr.Credential = who
	}
	stdin, err := s.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	s.stdin = stdin
	said, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.cmd.Stderr = s.cmd.Stdout
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	var log bytes.Buffer
	for lines := bufio.NewScanner(said); lines.Scan(); {
		if lines.Text() == ready {
			return s, nil
		}
		fmt.Fprintln(&log, lines.Text())
	}
	return nil, fmt.Errorf("PostgreSQL does not start: %w\n%s", s.cmd.Wait(), &log)
}

// stop returns when the server is gone.
func (s *server) stop() error {
	s.stdin.Close()
	return s.cmd.Wait()
}

// url of a database.
func (s *server) url(database string) string {
	return fmt.Sprintf("postgres://tfofleet@/%s?host=%s", database, s.dir)
}

// programs is the directory of initdb, pg_ctl and postgres. Debian keeps them
// out of PATH, one directory per version.
func programs() (string, error) {
	if dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres"); len(dirs) > 0 {
		newest := dirs[0]
		for _, d := range dirs[1:] {
			if version(d) > version(newest) {
				newest = d
			}
		}
		return filepath.Dir(newest), nil
	}
	path, err := exec.LookPath("postgres")
	if err != nil {
		return "", errNone
	}
	return filepath.Dir(path), nil
}

func version(postgres string) int {
	v, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(postgres))))
	return v
}

// unprivileged is somebody to run the server as.
func unprivileged() (*syscall.Credential, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err1, err2)
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is no user postgres or nobody")
}
