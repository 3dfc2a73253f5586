package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"

	"golang.org/x/sys/unix"

	"tfofleet/internal/lab"
)

// server is the server process.
type server struct {
	cmd   *exec.Cmd
	stdin io.Closer
}

// startServer starts this program again, as the server, in a namespace.
func startServer(netns string) (*server, error) {
	cmd := exec.Command("/proc/self/exe", "serve", strconv.Itoa(port))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := lab.In(netns, cmd.Start); err != nil {
		return nil, err
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return nil, fmt.Errorf("server did not start: %w", err)
	}
	return &server{cmd, in}, nil
}

func (s *server) stop() {
	s.stdin.Close()
	s.cmd.Wait()
}

// serve is the far end of the benchmarks: one epoll loop with a TFO listener on
// every address, in a process of its own so that its garbage collector and
// scheduler are nobody's business. It ends with its standard input.
func serve(port int) error {
	lfd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	unix.SetsockoptInt(lfd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err := unix.SetsockoptInt(lfd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 65535); err != nil {
		return os.NewSyscallError("setsockopt TCP_FASTOPEN", err)
	}
	if err := unix.Bind(lfd, &unix.SockaddrInet4{Port: port}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(lfd, 65535); err != nil {
		return os.NewSyscallError("listen", err)
	}
	epfd, _ := unix.EpollCreate1(0)
	unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, lfd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(lfd)})
	unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, 0, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLHUP, Fd: 0})
	fmt.Println("ready")
	response := []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	var events [512]unix.EpollEvent
	var buf [4096]byte
	for {
		n, _ := unix.EpollWait(epfd, events[:], -1)
		for _, ev := range events[:max(n, 0)] {
			fd := int(ev.Fd)
			switch fd {
			case 0:
				return nil
			case lfd:
				for {
					c, _, err := unix.Accept4(lfd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
					if err != nil {
						break
					}
					if !answer(c, buf[:], response) {
						unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, c, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c)})
					}
				}
			default:
				answer(fd, buf[:], response)
			}
		}
	}
}

// answer reads the request and closes; false when it has not come yet.
func answer(fd int, buf, response []byte) bool {
	n, err := unix.Read(fd, buf)
	if err == unix.EAGAIN {
		return false
	}
	if n > 0 {
		unix.Write(fd, response)
	}
	unix.Close(fd)
	return true
}
