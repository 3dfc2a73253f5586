package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// exampleFlags are those of the classic Go example of TCP Fast Open, which
// people know: "-s" and "-p" say where to connect, or with "-l" to listen.
type exampleFlags struct {
	listen bool
	server string
	port   uint16
}

func (f *exampleFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&f.listen, "listen", "l", false, "listen on the address and port of -s and -p, as \"probe listen\" does")
	cmd.Flags().StringVarP(&f.server, "server", "s", "127.0.0.1", "host to connect to, or with -l to listen on")
	cmd.Flags().Uint16VarP(&f.port, "port", "p", 2222, "port to connect to, or with -l to listen on")
}

// example runs the command that the flags stand for.
func (a *app) example(cmd *cobra.Command, f *exampleFlags) error {
	if !f.listen {
		if cmd.Flags().NFlag() == 0 {
			return cmd.Help()
		}
		c := defaultConnect()
		c.server, c.port = f.server, f.port
		return a.connect(cmd.Context(), c, nil)
	}
	at, err := parseListen(fmt.Sprintf("%s:%d", bracketed(f.server), f.port))
	if err != nil {
		return err
	}
	return a.listen(cmd.Context(), at, &listenFlags{})
}
