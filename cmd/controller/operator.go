package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tfofleet/internal/identity"
	"tfofleet/internal/settings"
	pb "tfofleet/proto/tfofleet/v1"
)

// operator is what the commands of an operator share: where the controller is,
// and how its answers are written.
type operator struct {
	controller string
	format     oneOf
}

// addTo defines the flags. Where there is nothing to list, format is left out.
func (o *operator) addTo(cmd *cobra.Command, lists bool) {
	where := os.Getenv(settings.Variable("controller"))
	if where == "" {
		where = socketIn(dataDir)
	}
	cmd.Flags().StringVar(&o.controller, "controller", where, "`SOCKET` of the controller, or the file that \"operator create\" wrote")
	if lists {
		addOneOf(cmd, &o.format, "format", "a table, or one JSON object per line", "table", "json")
	}
}

// control calls f with a connection to the controller.
func control(where string, f func(pb.ControlServiceClient) error) error {
	conn, err := dialControl(where)
	if err != nil {
		return err
	}
	defer conn.Close()
	return answered(f(pb.NewControlServiceClient(conn)), where)
}

// dialControl makes a connection: to the socket on this host, or, with the
// credential in a file, to one of the controllers that it names.
func dialControl(where string) (*grpc.ClientConn, error) {
	if _, _, err := net.SplitHostPort(where); err == nil && !strings.Contains(where, "/") && !strings.HasPrefix(where, "unix:") {
		return nil, fail(exitUsage, fmt.Errorf("--controller %s is neither a socket nor a credential", where),
			`on the controller's host, give the path of its socket`, `elsewhere, give the file that "controller operator create" wrote there: it has the address`)
	}
	path, err := filepath.Abs(strings.TrimPrefix(where, "unix:"))
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	}
	c, err := identity.LoadCredential(path)
	if err != nil {
		return nil, fail(exitUsage, err, `"controller operator create" writes such a file`)
	}
	return grpc.NewClient("dns:///"+c.Addresses()[0], grpc.WithTransportCredentials(c.Transport(nil)))
}

// answered makes the error of a call one for people.
func answered(err error, where string) error {
	var end *ending
	if err == nil || errors.As(err, &end) {
		return err
	}
	s, ok := status.FromError(err)
	switch {
	case !ok:
		return err
	case s.Code() == codes.Unavailable:
		return unanswered(where, identity.Why(err))
	case s.Code() == codes.InvalidArgument:
		return fail(exitUsage, errors.New(s.Message()))
	case s.Code() == codes.NotFound:
		return &ending{code: exitFailure, err: errors.New(s.Message()), unknown: true}
	}
	return fail(exitFailure, errors.New(s.Message()))
}

// unanswered is the ending for a controller that was not reached, and why.
func unanswered(where, why string) *ending {
	switch {
	case strings.HasSuffix(why, syscall.EACCES.Error()):
		return fail(exitFailure, fmt.Errorf("the controller's socket is not yours to use: %s", why),
			`be the user that "controller serve" runs as, or give the file that "controller operator create" wrote with --controller FILE`)
	case strings.Contains(why, "certificate"):
		return fail(exitFailure, fmt.Errorf("who answers for %s is not known as its controller: %s", where, why),
			`"controller operator create" on the controller's host writes another file; of certificates that are out of date, see to the clock`)
	}
	return fail(exitFailure, fmt.Errorf("no controller answers at %s: %s", where, why),
		"controller serve starts one; --controller SOCKET names another socket")
}

// list writes rows under a header, or the messages as JSON.
func list[M proto.Message](w io.Writer, format string, messages []M, header string, row func(M) []string) error {
	if format == "json" {
		enc := json.NewEncoder(w)
		for _, m := range messages {
			b, err := protojson.Marshal(m)
			if err != nil {
				return err
			}
			if err := enc.Encode(json.RawMessage(b)); err != nil { // one line, without the spaces that protojson varies
				return err
			}
		}
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.ReplaceAll(header, " ", "\t"))
	for _, m := range messages {
		fmt.Fprintln(t, strings.Join(row(m), "\t"))
	}
	return t.Flush()
}

// date writes a time for people; "-" where there is none.
func date(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return t.AsTime().UTC().Format(time.DateTime)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// one takes exactly one argument, and says what it is.
func one(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 && args[0] != "" {
			return nil
		}
		if len(args) == 1 {
			return fail(exitUsage, fmt.Errorf("%s takes one %s, got an empty one", cmd.CommandPath(), what))
		}
		return fail(exitUsage, fmt.Errorf("%s takes one %s, got %d arguments", cmd.CommandPath(), what, len(args)))
	}
}

// group is a command that has only subcommands.
func group(name, short string, sub ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: name, Short: short, Args: noCommand, SuggestionsMinimumDistance: 2, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(sub...)
	return cmd
}
