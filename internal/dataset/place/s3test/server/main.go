// Command server is an S3 server for tests: versitygw over a directory, on a
// unix socket. It is a module of its own, so that what it needs is not needed
// by ours.
//
//	server DIR SOCKET ACCESS-KEY SECRET-KEY
//
// It ends when its standard input does, and so with the test that started it.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("%d arguments, want DIR SOCKET ACCESS-KEY SECRET-KEY", len(args))
	}
	backend, err := posix.New(args[0], meta.XattrMeta{}, posix.PosixOpts{Concurrency: 64, CopyObjectThreshold: 5 << 30})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	return embedgw.RunVersityGW(ctx, backend, &embedgw.Config{
		RootUserAccess: args[2], RootUserSecret: args[3],
		Ports:          []string{args[1]},
		MaxConnections: 1000, MaxRequests: 1000, MultipartMaxParts: 10000,
		Quiet: true, KeepAlive: true,
	})
}
