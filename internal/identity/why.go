package identity

import (
	"regexp"
	"strconv"
	"strings"

	"google.golang.org/grpc/status"
)

// connectionError is how gRPC wraps why a connection failed (ConnectionError in
// its internal/transport).
var connectionError = regexp.MustCompile(`^(?:last connection error: )?connection error: desc = ("(?:[^"\\]|\\.)*")$`)

// Why is what is wrong with a call, for people: without what gRPC puts around
// it.
func Why(err error) string {
	text := status.Convert(err).Message()
	m := connectionError.FindStringSubmatch(text)
	if m == nil {
		return text
	}
	inner, err := strconv.Unquote(m[1])
	if err != nil {
		return text
	}
	inner = strings.TrimPrefix(inner, "transport: ")
	return strings.TrimPrefix(inner, "Error while dialing: ")
}
